//! What lies in files: waited for until it was looked for, taken by name, replaced by no stream, kept on no disk.

use std::collections::BTreeMap;

use tulle_config::Readiness;
use tulle_core::Nanos;
use tulle_xds::ads::files::Content;
use tulle_xds::decode::Kind;

use super::{Bench, cluster, endpoints, listener, listener_with, route};

const FILES: &str = r#"
node: {id: me, cluster: c}
dynamic_resources: {lds_config: {path: lds}, cds_config: {path_config_source: {path: cds}}}
"#;

const CLUSTER_AND_STREAM: &str = r#"
node: {id: me, cluster: c}
dynamic_resources:
  lds_config: {ads: {}}
  ads_config: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]}
static_resources: {clusters: [{name: xds-grpc, type: STATIC}]}
"#;

pub type Named = (String, envoy_types::pb::google::protobuf::Any);

fn content(resources: Vec<Named>) -> Result<Content, String> {
    Ok(Content { version: "1".to_owned(), resources: resources.into_iter().map(|(_, any)| any).collect() })
}

fn routes_of(path: &str, name: &str) -> Named {
    listener_with("out", &format!("rds: {{route_config_name: {name}, config_source: {{path: {path}}}}}"), "")
}

/// The files that are named, those first for which something waits.
fn named(bench: &Bench) -> (Vec<String>, Vec<String>) {
    let all: BTreeMap<_, _> = bench.client.files();
    let of = |awaited: bool| all.iter().filter(|each| *each.1 == awaited).map(|each| each.0.to_string()).collect();
    (of(true), of(false))
}

#[test]
fn a_file_is_all_of_its_kind() {
    let mut bench = Bench::with(FILES);
    bench.refresh();
    assert_eq!(named(&bench).0, ["cds", "lds"]);
    assert_eq!(bench.config.readiness, Readiness::Initializing);
    let handled = bench.client.read("cds", content(vec![cluster("a", "1s"), cluster("b", "1s")]), bench.now);
    assert_eq!((handled.accepted, handled.refused.len()), (2, 0));
    bench.client.read("lds", content(vec![routes_of("rds", "r")]), bench.now);
    bench.refresh();
    assert_eq!(bench.names(), (vec![], vec!["a", "b"]), "the listener waits for its routes, no cluster for a stream");
    assert_eq!(named(&bench), (vec!["rds".to_owned()], vec!["cds".to_owned(), "lds".to_owned()]));
    bench.client.read("rds", content(vec![route("s", 200), route("r", 200)]), bench.now);
    bench.refresh();
    assert_eq!((bench.names().0, bench.config.routes.len()), (vec!["out"], 1));
    assert_eq!(bench.config.readiness, Readiness::Complete);

    let handled = bench.client.read("cds", content(vec![cluster("b", "2s"), listener("x", "r")]), bench.now);
    assert_eq!((handled.accepted, handled.removed, handled.refused.len()), (1, 0, 1), "which it was is not known");
    let handled = bench.client.read("cds", content(vec![cluster("b", "2s")]), bench.now);
    assert_eq!((handled.accepted, handled.removed), (1, 1));
    bench.client.read("cds", Err("is gone".to_owned()), bench.now);
    bench.refresh();
    assert_eq!(bench.names().1, ["b"]);
}

#[test]
fn what_a_file_does_not_have_is_not_waited_for() {
    for (found, refused) in [(content(vec![route("s", 200)]), "has no envoy"), (Err("is gone".to_owned()), "is gone")] {
        let mut bench = Bench::with(FILES);
        bench.client.read("cds", content(vec![]), bench.now);
        bench.client.read("lds", content(vec![routes_of("rds", "r")]), bench.now);
        let handled = bench.client.read("rds", found, bench.now);
        assert!(handled.refused[0].starts_with(refused), "{:?}", handled.refused);
        bench.refresh();
        assert_eq!((bench.names().0, bench.config.routes.len()), (vec!["out"], 0));
        bench.client.read("rds", content(vec![route("r", 200)]), bench.now);
        bench.client.read("rds", content(vec![route("s", 200)]), bench.now);
        bench.refresh();
        assert_eq!(bench.config.routes.len(), 1, "what went stays, as in Envoy");
    }
}

#[test]
fn files_and_streams_do_not_mix() {
    let mut bench = Bench::with(CLUSTER_AND_STREAM);
    bench.client.keep();
    bench.client.connected(bench.now);
    bench.requests();
    bench.receive(Kind::Listener, vec![routes_of("rds", "r")], &[]);
    assert_eq!(bench.requests(), ["Listener ACK n1"], "no stream is asked for what lies in a file");
    let handled = bench.receive(Kind::Route, vec![route("r of rds", 404)], &[]);
    assert_eq!(handled.refused, ["r of rds: comes from rds"]);
    bench.client.read("rds", content(vec![route("r", 200)]), bench.now);
    let kept = bench.written(None);
    let mut later = Bench::with(CLUSTER_AND_STREAM);
    assert_eq!(later.client.restore(&kept, Nanos::ZERO), Ok(1), "the listener alone");
    assert_eq!(named(&later).0, ["rds"]);
    // Endpoints of one name may lie in two files.
    let two = |path: &str| {
        let yaml = format!(
            "{{name: {path}, type: EDS, eds_cluster_config: {{service_name: s, eds_config: {{path: {path}}}}}}}"
        );
        (path.to_owned(), super::pack(&super::Messages::load().parse::<super::Cluster>(&yaml).unwrap()))
    };
    let mut bench = Bench::with(FILES);
    bench.client.read("cds", content(vec![two("one"), two("two")]), bench.now);
    bench.client.read("one", content(vec![endpoints("s", 1)]), bench.now);
    bench.client.read("two", content(vec![endpoints("s", 2)]), bench.now);
    bench.refresh();
    assert_eq!((bench.names().1, bench.config.endpoints.len()), (vec!["one", "two"], 2));
}
