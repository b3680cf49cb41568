//! What a client gives to be kept on disk, and what becomes of it in another one.

use tulle_config::Readiness;
use tulle_core::Nanos;
use tulle_xds::ads::saved::Lost;
use tulle_xds::decode::Kind;

use super::{
    BOOTSTRAP, Bench, SCOPED, cluster, discovered, endpoints, extension, listener, listener_with, route, scope, warm,
};

#[test]
fn what_is_kept_is_what_is_restored() {
    let mut bench = warm();
    let kept = bench.written(None);
    assert!(bench.client.unsaved().is_none(), "once after each change");

    let mut later = Bench::new();
    assert_eq!(later.client.restore(&kept, Nanos::ZERO), Ok(4));
    assert!(later.refresh());
    assert_eq!(later.names(), (vec!["out"], vec!["a", "xds-grpc"]));
    assert!(later.config.routes.contains_key("r") && later.config.endpoints["a"].len() == 1);
    assert_eq!(later.config.readiness, Readiness::Complete);

    // The control plane is told what is held, so that it sends nothing that has not changed; and it may change all.
    later.client.connected(later.now);
    bench.client.connected(bench.now);
    assert_eq!(later.requests(), bench.requests());
    later.receive(Kind::Endpoints, vec![endpoints("a", 2)], &[]);
    later.receive(Kind::Listener, vec![], &["out"]);
    assert!(later.refresh());
    assert!(later.names().0.is_empty());
}

#[test]
fn only_what_changed_is_held_for_the_disk() {
    let mut bench = warm();
    let first = bench.client.unsaved().unwrap();
    assert!(!first.needs_before());
    let first = first.encode(None).unwrap();
    bench.receive(Kind::Cluster, vec![cluster("b", "1s")], &[]);
    assert!(bench.client.unsaved().is_none(), "b still waits for its endpoints");
    bench.receive(Kind::Endpoints, vec![endpoints("b", 2)], &[]);
    bench.receive(Kind::Route, vec![route("r", 404)], &[]);
    let change = bench.client.unsaved().unwrap();
    assert!(change.needs_before());
    let lost = change.encode(None).unwrap_err();
    assert!(matches!(&lost, Lost(_, name) if name == "a" || name == "out"), "{lost}");
    let second = change.encode(Some(&first)).unwrap();
    bench.receive(Kind::Cluster, vec![], &["b"]);
    let third = bench.written(Some(&second));

    let mut later = Bench::new();
    assert_eq!(later.client.restore(&second, Nanos::ZERO), Ok(6));
    assert!(later.refresh());
    assert_eq!(later.names().1, ["a", "b", "xds-grpc"]);
    let mut later = Bench::new();
    assert_eq!(later.client.restore(&third, Nanos::ZERO), Ok(4));
}

#[test]
fn what_was_written_by_somebody_else_completes_nothing() {
    let mut bench = warm();
    let mine = bench.written(None);
    bench.receive(Kind::Endpoints, vec![endpoints("a", 2)], &[]);
    drop(bench.client.unsaved());
    bench.receive(Kind::Route, vec![route("r", 404)], &[]);
    let change = bench.client.unsaved().unwrap();
    let lost = change.encode(Some(&mine)).unwrap_err();
    assert_eq!(lost, Lost("envoy.config.endpoint.v3.ClusterLoadAssignment", "a".to_owned()), "older endpoints");

    // Put back and asked for again, all of it comes, and nothing is missing any more.
    bench.client.put_back(change);
    bench.client.ask_again();
    bench.client.connected(bench.now);
    assert_eq!(bench.requests()[0], "Cluster node a=", "held, but in no version that there is");
    bench.receive(Kind::Cluster, vec![cluster("a", "1s")], &[]);
    bench.receive(Kind::Endpoints, vec![endpoints("a", 2)], &[]);
    bench.receive(Kind::Listener, vec![listener("out", "r")], &[]);
    assert!(!bench.client.unsaved().unwrap().needs_before());
}

#[test]
fn a_refused_resource_refuses_all_that_was_kept() {
    let kept = warm().written(None);
    let mut later = Bench::new();
    assert!(later.client.restore(&kept[..kept.len() - 1], Nanos::ZERO).is_err());
    assert!(later.client.restore(&[&kept[..], &[0x12, 2, 0x1a, 0]].concat(), Nanos::ZERO).is_err());
    later.client.take_update();
    assert!(!later.client.complete());
    assert_eq!(later.client.restore(&kept, Nanos::ZERO), Ok(4));
}

#[test]
fn scopes_and_filters_are_restored_with_what_they_refer_to() {
    let mut bench = Bench::connected();
    bench.requests();
    bench.receive(Kind::Cluster, vec![], &[]);
    bench.receive(Kind::Listener, vec![listener_with("out", SCOPED, &discovered("d", ""))], &[]);
    bench.receive(Kind::Scope, vec![scope("one", "k"), scope("two", "l")], &[]);
    bench.receive(Kind::Route, vec![route("one", 200), route("two", 201)], &[]);
    bench.receive(Kind::Extension, vec![extension("d", "rbac.v3.RBAC")], &[]);
    let kept = bench.written(None);

    let mut later = Bench::new();
    assert_eq!(later.client.restore(&kept, Nanos::ZERO), Ok(6));
    assert!(later.refresh());
    assert_eq!(later.config.readiness, Readiness::Complete);
    assert_eq!((later.names().0, later.config.routes.len()), (vec!["out"], 2));
    assert!(later.config.extensions.contains_key("d"));
    assert_eq!(later.config.scopes.named().count(), 2);

    // All of it is subscribed to, in the versions held; what changes meanwhile is taken.
    later.client.connected(later.now);
    bench.client.connected(bench.now);
    assert_eq!(later.requests(), bench.requests());
    later.receive(Kind::Scope, vec![], &["two"]);
    assert!(later.refresh());
    assert_eq!(later.config.routes.len(), 1, "routes that no scope refers to go");
}

#[test]
fn clusters_that_requests_had_asked_for_are_asked_for_again() {
    let without_clusters = BOOTSTRAP.replace("  cds_config: {ads: {}}\n", "");
    let fresh = || Bench::with(&without_clusters);
    let mut bench = fresh();
    bench.client.keep();
    bench.client.connected(bench.now);
    bench.receive(Kind::Listener, vec![], &[]);
    bench.client.demand(["late".into()], bench.now);
    bench.receive(Kind::Cluster, vec![cluster("late", "1s")], &[]);
    bench.receive(Kind::Endpoints, vec![endpoints("late", 1)], &[]);
    let kept = bench.written(None);

    let mut later = fresh();
    assert_eq!(later.client.restore(&kept, Nanos::ZERO), Ok(2));
    assert!(later.refresh() && later.config.clusters.contains_key("late"));
    later.client.connected(later.now);
    let first = &later.requests()[0];
    assert!(first.starts_with("Cluster node +late late=v"), "{first}");
    later.receive(Kind::Cluster, vec![], &["late"]);
    assert!(later.refresh() && !later.config.clusters.contains_key("late"));
}
