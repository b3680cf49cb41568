//! The delta protocol as transcripts: what is sent when, what goes live when, what stays when something is refused.

mod files;
mod kept;
mod world;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, ScopedRouteConfiguration};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use tulle_config::{Config, Readiness};
use tulle_core::Nanos;
use tulle_xds::ads::{Client, Handled};
use tulle_xds::decode::{Kind, type_name};
use tulle_xds::json::{Messages, pack};

const BOOTSTRAP: &str = r#"
node: {id: me, cluster: c}
dynamic_resources:
  lds_config: {ads: {}, initial_fetch_timeout: 5s}
  cds_config: {ads: {}}
  ads_config: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]}
static_resources: {clusters: [{name: xds-grpc, type: STATIC}]}
"#;

fn cluster(name: &str, timeout: &str) -> (String, Any) {
    let yaml = format!(
        "{{name: {name}, type: EDS, connect_timeout: {timeout}, eds_cluster_config: {{eds_config: {{ads: {{}}}}}}}}"
    );
    (name.to_owned(), pack(&Messages::load().parse::<Cluster>(&yaml).unwrap()))
}

fn endpoints(name: &str, port: u16) -> (String, Any) {
    let yaml = format!(
        "{{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: \
         {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}"
    );
    (name.to_owned(), pack(&Messages::load().parse::<ClusterLoadAssignment>(&yaml).unwrap()))
}

fn listener(name: &str, rds: &str) -> (String, Any) {
    listener_with(name, &format!("rds: {{route_config_name: {rds}, config_source: {{ads: {{}}}}}}"), "")
}

/// `filters` are YAML that ends with a comma, or nothing.
fn listener_with(name: &str, routes: &str, filters: &str) -> (String, Any) {
    let yaml = format!(
        "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: [{{filters: [{{\
         name: hcm, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: s, {routes}, http_filters: [{filters}{{name: envoy.filters.http.router}}]}}}}]}}]}}"
    );
    (name.to_owned(), pack(&Messages::load().parse::<Listener>(&yaml).unwrap()))
}

fn route(name: &str, status: u32) -> (String, Any) {
    let yaml = format!(
        "{{name: {name}, virtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, \
         direct_response: {{status: {status}}}}}]}}]}}"
    );
    (name.to_owned(), pack(&Messages::load().parse::<RouteConfiguration>(&yaml).unwrap()))
}

/// A client with a clock and what it published last.
struct Bench {
    client: Client,
    now: Nanos,
    config: Config,
    nonce: u32,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(BOOTSTRAP)
    }

    fn with(bootstrap: &str) -> Bench {
        let bootstrap = tulle_xds::bootstrap::load(bootstrap).unwrap().bootstrap;
        Bench { client: Client::new(&bootstrap), now: Nanos::ZERO, config: Config::default(), nonce: 0 }
    }

    fn connected() -> Bench {
        let mut bench = Bench::new();
        bench.client.keep();
        bench.client.connected(bench.now);
        bench.refresh();
        bench
    }

    /// What is to be written to disk now, where `before` is.
    fn written(&mut self, before: Option<&[u8]>) -> Vec<u8> {
        self.client.unsaved().unwrap().encode(before).unwrap()
    }

    fn refresh(&mut self) -> bool {
        match self.client.take_update() {
            Some(config) => {
                self.config = config;
                true
            }
            None => false,
        }
    }

    fn requests(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.client.next_request()).map(|request| line(&request)).collect()
    }

    fn receive(&mut self, kind: Kind, resources: Vec<(String, Any)>, removed: &[&str]) -> Handled {
        self.nonce += 1;
        let resources = resources.into_iter().map(|(name, any)| Resource {
            version: format!("v{}", any.value.len()),
            name,
            resource: Some(any),
            ..Default::default()
        });
        let response = DeltaDiscoveryResponse {
            type_url: kind.type_url().to_owned(),
            nonce: format!("n{}", self.nonce),
            resources: resources.collect(),
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        };
        self.client.receive(response, self.now)
    }

    fn names(&self) -> (Vec<&str>, Vec<&str>) {
        let mut listeners: Vec<_> = self.config.listeners.keys().map(|name| &**name).collect();
        let mut clusters: Vec<_> = self.config.clusters.keys().map(|name| &**name).collect();
        listeners.sort_unstable();
        clusters.sort_unstable();
        (listeners, clusters)
    }
}

fn line(request: &DeltaDiscoveryRequest) -> String {
    let kind = type_name(&request.type_url).rsplit('.').next().unwrap();
    let mut text = kind.to_owned();
    if request.node.is_some() {
        text += " node";
    }
    if !request.response_nonce.is_empty() {
        text += if request.error_detail.is_some() { " NACK " } else { " ACK " };
        text += &request.response_nonce;
    }
    for name in &request.resource_names_subscribe {
        text += &format!(" +{name}");
    }
    for name in &request.resource_names_unsubscribe {
        text += &format!(" -{name}");
    }
    let mut held: Vec<_> = request.initial_resource_versions.iter().collect();
    held.sort();
    for (name, version) in held {
        text += &format!(" {name}={version}");
    }
    text
}

/// Brings up one cluster and one listener.
fn warm() -> Bench {
    let mut bench = Bench::connected();
    bench.requests();
    bench.receive(Kind::Cluster, vec![cluster("a", "1s")], &[]);
    bench.receive(Kind::Endpoints, vec![endpoints("a", 1)], &[]);
    bench.receive(Kind::Listener, vec![listener("out", "r")], &[]);
    bench.receive(Kind::Route, vec![route("r", 200)], &[]);
    bench.requests();
    assert!(bench.refresh());
    bench
}

#[test]
fn references_are_subscribed_to_and_waited_for() {
    let mut bench = Bench::connected();
    assert_eq!(bench.requests(), ["Cluster node", "Listener"], "wildcards name nothing");
    assert_eq!(bench.config.readiness, Readiness::Initializing);

    bench.receive(Kind::Cluster, vec![cluster("a", "1s")], &[]);
    assert_eq!(bench.requests(), ["ClusterLoadAssignment +a", "Cluster ACK n1"], "asked for before it is acknowledged");
    assert!(!bench.refresh(), "a cluster without its endpoints is not live");

    bench.receive(Kind::Endpoints, vec![endpoints("a", 1)], &[]);
    assert!(bench.refresh());
    assert_eq!(bench.names().1, ["a", "xds-grpc"]);

    bench.receive(Kind::Listener, vec![listener("out", "r")], &[]);
    assert_eq!(bench.requests(), ["RouteConfiguration +r", "ClusterLoadAssignment ACK n2", "Listener ACK n3"]);
    bench.refresh();
    assert!(bench.names().0.is_empty(), "a listener without its routes is not live");
    assert_eq!(bench.config.readiness, Readiness::Initializing);

    bench.receive(Kind::Route, vec![route("r", 200)], &[]);
    assert!(bench.refresh());
    assert_eq!(bench.names().0, ["out"]);
    assert_eq!(bench.config.readiness, Readiness::Complete);
    assert_eq!(bench.requests(), ["RouteConfiguration ACK n4"]);
    assert_eq!(bench.client.next_deadline(), None, "nothing is waited for any more");
}

#[test]
fn a_reconnect_says_what_is_held_and_changes_nothing() {
    let mut bench = warm();
    bench.client.connected(bench.now);
    let requests = bench.requests();
    assert_eq!(requests.len(), 4, "{requests:?}");
    assert!(requests[0].starts_with("Cluster node a=v"), "{requests:?}");
    assert!(requests[1].starts_with("ClusterLoadAssignment +a a=v"), "{requests:?}");
    assert!(requests[2].starts_with("Listener out=v"), "{requests:?}");
    assert!(requests[3].starts_with("RouteConfiguration +r r=v"), "{requests:?}");

    let before = bench.config.clone();
    bench.receive(Kind::Cluster, vec![cluster("a", "1s")], &[]);
    assert!(!bench.refresh(), "the same content sent again is no change");
    assert_eq!(bench.requests(), ["Cluster ACK n5"]);
    assert!(std::sync::Arc::ptr_eq(&before.clusters["a"], &bench.config.clusters["a"]));
}

#[test]
fn only_what_changed_gets_a_new_arc() {
    let mut bench = warm();
    let before = bench.config.clone();
    bench.receive(Kind::Endpoints, vec![endpoints("a", 2)], &[]);
    assert!(bench.refresh());
    assert!(std::sync::Arc::ptr_eq(&before.clusters, &bench.config.clusters));
    assert!(std::sync::Arc::ptr_eq(&before.routes, &bench.config.routes));
    assert!(!std::sync::Arc::ptr_eq(&before.endpoints["a"], &bench.config.endpoints["a"]));
}

#[test]
fn a_refused_update_keeps_the_last_good_one() {
    let mut bench = warm();
    let before = bench.config.clone();
    let handled = bench.receive(Kind::Route, vec![route("r", 99)], &[]);
    assert_eq!(handled.refused.len(), 1);
    assert!(handled.refused[0].starts_with("r: virtual_hosts[0].routes[0].direct_response.status"), "{handled:?}");
    assert!(!bench.refresh());
    assert!(std::sync::Arc::ptr_eq(&before.routes["r"], &bench.config.routes["r"]));
    let refused = bench.client.cache().refusals(Kind::Route);
    assert_eq!(refused.len(), 1);
    assert_eq!(bench.requests(), ["RouteConfiguration NACK n5"]);

    bench.receive(Kind::Route, vec![route("r", 404)], &[]);
    assert!(bench.refresh());
    assert_eq!(bench.requests(), ["RouteConfiguration ACK n6"]);
    assert!(bench.client.cache().refusals(Kind::Route).is_empty());
}

#[test]
fn one_bad_resource_does_not_take_the_others_with_it() {
    let mut bench = warm();
    let handled = bench.receive(Kind::Cluster, vec![cluster("a", "2s"), cluster("b", "0s")], &[]);
    assert_eq!((handled.accepted, handled.refused.len()), (1, 1));
    assert!(bench.refresh());
    assert_eq!(bench.config.clusters["a"].connect_timeout.as_secs(), 2);
    assert_eq!(bench.requests(), ["Cluster NACK n5"]);
    bench.client.connected(bench.now);
    assert!(!bench.requests()[0].contains("b="), "a refused version is not claimed to be held");
}

#[test]
fn removal_takes_references_along() {
    let mut bench = warm();
    bench.receive(Kind::Listener, vec![], &["out"]);
    assert!(bench.refresh());
    assert!(bench.names().0.is_empty());
    assert!(bench.config.routes.is_empty(), "nobody refers to the routes any more");
    assert_eq!(bench.requests(), ["Listener ACK n5", "RouteConfiguration -r"]);

    bench.receive(Kind::Cluster, vec![], &["a"]);
    assert!(bench.refresh());
    assert!(bench.config.endpoints.is_empty());
}

#[test]
fn endpoints_taken_away_under_a_cluster_stay() {
    let mut bench = warm();
    bench.receive(Kind::Endpoints, vec![], &["a"]);
    bench.refresh();
    assert_eq!(bench.config.endpoints["a"].len(), 1);
}

#[test]
fn a_listener_moves_to_new_routes_only_when_they_are_there() {
    let mut bench = warm();
    bench.receive(Kind::Listener, vec![listener("out", "r2")], &[]);
    assert_eq!(bench.requests(), ["RouteConfiguration +r2", "Listener ACK n5"], "the old routes are still in use");
    assert!(!bench.refresh());
    bench.receive(Kind::Route, vec![route("r2", 200)], &[]);
    assert!(bench.refresh());
    assert!(bench.config.routes.contains_key("r2") && !bench.config.routes.contains_key("r"));
    assert_eq!(bench.requests(), ["RouteConfiguration ACK n6 -r"]);
}

#[test]
fn what_never_comes_is_not_waited_for_for_ever() {
    let mut bench = Bench::connected();
    bench.requests();
    bench.receive(Kind::Cluster, vec![cluster("a", "1s")], &[]);
    let routes = "rds: {route_config_name: r, config_source: {ads: {}, initial_fetch_timeout: 4s}}";
    bench.receive(Kind::Listener, vec![listener_with("out", routes, "")], &[]);
    bench.refresh();
    assert_eq!(bench.client.next_deadline(), Some(Nanos::from_secs(4)), "routes are given up first");
    bench.client.tick(Nanos::from_secs(4));
    assert!(!bench.refresh(), "the endpoints are still waited for");
    assert_eq!(bench.client.next_deadline(), Some(Nanos::from_secs(15)));
    bench.client.tick(Nanos::from_millis(14_999));
    assert!(!bench.refresh());
    bench.client.tick(Nanos::from_secs(15));
    assert!(bench.refresh());
    assert_eq!(bench.names(), (vec!["out"], vec!["a", "xds-grpc"]));
    assert_eq!(bench.config.readiness, Readiness::Complete);
    assert_eq!(bench.client.next_deadline(), None, "a passed deadline must not spin");
}

#[test]
fn absence_is_an_answer() {
    let mut bench = Bench::connected();
    bench.requests();
    bench.receive(Kind::Cluster, vec![], &[]);
    bench.receive(Kind::Listener, vec![listener("out", "r")], &[]);
    bench.receive(Kind::Route, vec![], &["r"]);
    bench.refresh();
    assert_eq!(bench.names().0, ["out"]);
}

#[test]
fn a_control_plane_with_nothing_to_say_lets_the_proxy_become_ready() {
    let mut bench = Bench::connected();
    bench.client.tick(Nanos::from_secs(5));
    assert_eq!(bench.client.next_deadline(), Some(Nanos::from_secs(15)), "each source has its own time");
    bench.client.tick(Nanos::from_secs(15));
    assert!(bench.refresh());
    assert_eq!(bench.config.readiness, Readiness::Complete);
}

/// A listener and clusters of the bootstrap; `cds` is YAML of a source, or nothing.
fn statics(cds: &str) -> Bench {
    let clusters =
        "{name: xds-grpc, type: STATIC}, {name: own, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}";
    Bench::with(&format!(
        "{{node: {{id: me}}, dynamic_resources: {{{cds} ads_config: {{api_type: DELTA_GRPC, \
         grpc_services: [{{envoy_grpc: {{cluster_name: xds-grpc}}}}]}}}}, static_resources: {{clusters: [{clusters}], \
         listeners: [{{name: in, address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}, filter_chains: \
         [{{filters: [{{name: hcm, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: s, route_config: {{name: r}}, http_filters: [{{name: envoy.filters.http.router}}]}}}}]}}]}}]}}}}"
    ))
}

const CDS: &str = "cds_config: {ads: {}},";

#[test]
fn a_static_listener_waits_for_the_endpoints_of_a_static_cluster() {
    let mut bench = statics("");
    bench.client.connected(bench.now);
    assert!(bench.refresh());
    assert_eq!(bench.names(), (vec![], vec!["xds-grpc"]));
    bench.receive(Kind::Endpoints, vec![endpoints("own", 1)], &[]);
    assert!(bench.refresh());
    assert_eq!(bench.names(), (vec!["in"], vec!["own", "xds-grpc"]));
}

#[test]
fn a_static_listener_waits_for_the_clusters_of_the_beginning_and_their_endpoints() {
    let mut bench = statics(CDS);
    bench.client.connected(bench.now);
    bench.receive(Kind::Endpoints, vec![endpoints("own", 1)], &[]);
    bench.refresh();
    assert!(bench.names().0.is_empty(), "more clusters may come");
    bench.receive(Kind::Cluster, vec![cluster("a", "1s")], &[]);
    bench.refresh();
    assert!(bench.names().0.is_empty());
    bench.receive(Kind::Endpoints, vec![endpoints("a", 1)], &[]);
    bench.refresh();
    assert_eq!(bench.names().0, ["in"]);
    // Clusters that come later warm while it serves.
    bench.receive(Kind::Cluster, vec![cluster("b", "1s")], &[]);
    bench.refresh();
    assert_eq!(bench.names().0, ["in"]);
}

#[test]
fn a_static_listener_does_not_wait_for_ever_for_a_control_plane_that_is_away() {
    let mut bench = statics(CDS);
    assert_eq!(bench.client.next_deadline(), Some(Nanos::from_secs(15)));
    bench.client.tick(Nanos::from_millis(14_999));
    bench.refresh();
    assert!(bench.names().0.is_empty());
    bench.client.tick(Nanos::from_secs(15));
    bench.refresh();
    assert_eq!(bench.names(), (vec!["in"], vec!["own", "xds-grpc"]));
    assert_eq!(bench.config.readiness, Readiness::Initializing, "it is not what the control plane wants yet");
    assert_eq!(bench.client.next_deadline(), None, "a passed deadline must not spin");
}

#[test]
fn a_source_may_be_waited_for_for_ever() {
    let mut bench = statics("cds_config: {ads: {}, initial_fetch_timeout: 0s},");
    bench.client.connected(bench.now);
    bench.client.tick(Nanos::from_secs(1_000_000));
    bench.refresh();
    assert_eq!(bench.names(), (vec![], vec!["own", "xds-grpc"]));
    assert_eq!(bench.client.next_deadline(), None);
    bench.receive(Kind::Cluster, vec![], &[]);
    bench.refresh();
    assert_eq!(bench.names().0, ["in"]);
}

#[test]
fn a_refused_resource_is_no_longer_waited_for() {
    let mut bench = statics("");
    bench.client.connected(bench.now);
    let mut bad = endpoints("own", 1);
    bad.1.value.push(0xff);
    assert_eq!(bench.receive(Kind::Endpoints, vec![bad], &[]).refused.len(), 1);
    bench.refresh();
    assert_eq!(bench.names().0, ["in"]);
    bench.receive(Kind::Endpoints, vec![endpoints("own", 1)], &[]);
    bench.refresh();
    assert_eq!(bench.config.endpoints["own"].len(), 1);
}

#[test]
fn without_a_control_plane_nothing_is_waited_for() {
    let text = "static_resources: {clusters: [{name: own, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}]}";
    let mut bench = Bench::with(text);
    bench.refresh();
    assert_eq!(bench.names().1, ["own"]);
    assert_eq!(bench.client.next_deadline(), None);
}

#[test]
fn static_resources_cannot_be_replaced_or_removed() {
    let mut bench = warm();
    let handled = bench.receive(Kind::Cluster, vec![cluster("xds-grpc", "1s")], &[]);
    assert!(handled.refused[0].contains("defined by the bootstrap"), "{handled:?}");
    bench.receive(Kind::Cluster, vec![], &["xds-grpc"]);
    bench.refresh();
    assert!(bench.config.clusters.contains_key("xds-grpc"));
}

#[test]
fn odd_responses_are_refused_by_name() {
    let mut bench = warm();
    let handled = bench.receive(Kind::Route, vec![route("r", 200), route("r", 201)], &[]);
    assert!(handled.refused[0].contains("appears twice"));
    let mut misnamed = route("r", 200);
    misnamed.0 = "other".to_owned();
    let handled = bench.receive(Kind::Route, vec![misnamed], &[]);
    assert!(handled.refused[0].contains("calls itself \"r\""), "{handled:?}");
    let huge = Any { value: vec![0; (16 << 20) + 1], ..route("r", 200).1 };
    let handled = bench.receive(Kind::Route, vec![("r".to_owned(), huge)], &[]);
    assert_eq!(handled.refused, ["r: 16777217 bytes, and at most 16777216 are taken"]);
    let response = DeltaDiscoveryResponse { type_url: "x/y.Z".to_owned(), nonce: "q".to_owned(), ..Default::default() };
    bench.client.receive(response, bench.now);
    assert!(bench.requests().contains(&"Z NACK q".to_owned()));
}

#[test]
fn clusters_are_asked_for_when_requests_need_them() {
    let mut bench = warm();
    let ask = |bench: &mut Bench, name: &str| bench.client.demand([name.into()], bench.now);
    ask(&mut bench, "a");
    assert!(bench.requests().is_empty(), "what is there is not asked for");
    ask(&mut bench, "late");
    assert_eq!(bench.requests(), ["Cluster +late"]);
    bench.receive(Kind::Cluster, vec![], &["late"]);
    assert_eq!(bench.requests(), ["Cluster ACK n5 -late"]);
    assert!(bench.refresh());
    assert_eq!(bench.config.unknown_clusters.get("late"), Some(&1));
    ask(&mut bench, "late");
    assert_eq!(bench.requests(), ["Cluster +late"], "it may be there by now");
    bench.receive(Kind::Cluster, vec![cluster("late", "1s")], &[]);
    bench.refresh();
    assert!(!bench.config.clusters.contains_key("late"), "a cluster without its endpoints is not live");
    bench.receive(Kind::Endpoints, vec![endpoints("late", 1)], &[]);
    assert!(bench.refresh() && bench.config.clusters.contains_key("late"));
    bench.client.connected(bench.now);
    assert!(bench.requests()[0].starts_with("Cluster node +* +late a=v"), "both all of them and that one");
}

fn scope(name: &str, key: &str) -> (String, Any) {
    let yaml =
        format!("{{name: {name}, route_configuration_name: {name}, key: {{fragments: [{{string_key: {key}}}]}}}}");
    (name.to_owned(), pack(&Messages::load().parse::<ScopedRouteConfiguration>(&yaml).unwrap()))
}

/// A connection manager whose routes are sent scopes'.
const SCOPED: &str = "scoped_routes: {name: s, rds_config_source: {ads: {}}, \
                      scoped_rds: {scoped_rds_config_source: {ads: {}}}, \
                      scope_key_builder: {fragments: [{header_value_extractor: {name: x, index: 0}}]}}";

#[test]
fn scopes_are_asked_for_with_their_routes() {
    let mut bench = Bench::connected();
    bench.receive(Kind::Cluster, vec![], &[]);
    bench.requests();
    bench.receive(Kind::Listener, vec![listener_with("out", SCOPED, "")], &[]);
    assert_eq!(bench.requests(), ["ScopedRouteConfiguration", "Listener ACK n2"]);
    let handled = bench.receive(Kind::Scope, vec![scope("one", "k"), scope("two", "k"), scope("three", "l")], &[]);
    assert_eq!(handled.refused, ["two: \"one\" has the same key"]);
    assert_eq!(bench.requests(), ["RouteConfiguration +one +three", "ScopedRouteConfiguration NACK n3"]);
    bench.receive(Kind::Route, vec![route("one", 200), route("three", 200)], &[]);
    assert!(bench.refresh());
    assert_eq!((bench.names().0, bench.config.routes.len()), (vec!["out"], 2));
    bench.receive(Kind::Scope, vec![], &["one"]);
    assert!(bench.refresh());
    assert_eq!(bench.config.routes.len(), 1, "routes that no scope refers to go");
}

fn extension(name: &str, kind: &str) -> (String, Any) {
    let typed = format!("{{'@type': type.googleapis.com/envoy.extensions.filters.http.{kind}}}");
    let yaml = format!("{{name: {name}, typed_config: {typed}}}");
    (name.to_owned(), pack(&Messages::load().parse::<TypedExtensionConfig>(&yaml).unwrap()))
}

/// A filter whose settings are sent; `more` goes into its `config_discovery`.
fn discovered(name: &str, more: &str) -> String {
    format!(
        "{{name: {name}, config_discovery: {{config_source: {{ads: {{}}}}, \
         type_urls: [type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC]{more}}}}}, "
    )
}

#[test]
fn settings_of_filters_are_waited_for_unless_a_default_applies() {
    let default = ", apply_default_config_without_warming: true, \
                   default_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC}";
    let routes = "route_config: {name: r}";
    let mut bench = Bench::connected();
    bench.receive(Kind::Cluster, vec![], &[]);
    bench.requests();
    let ready = listener_with("ready", routes, &discovered("d", default));
    let waits = listener_with("waits", routes, &discovered("w", ""));
    bench.receive(Kind::Listener, vec![ready, waits], &[]);
    assert_eq!(bench.requests(), ["TypedExtensionConfig +d +w", "Listener ACK n2"]);
    bench.refresh();
    assert_eq!(bench.names().0, ["ready"]);
    let handled = bench.receive(Kind::Extension, vec![extension("d", "fault.v3.HTTPFault")], &[]);
    assert_eq!(
        handled.refused,
        ["d: envoy.extensions.filters.http.fault.v3.HTTPFault is not a type that the filter may have"]
    );
    bench.receive(Kind::Extension, vec![extension("w", "rbac.v3.RBAC")], &[]);
    assert!(bench.refresh());
    assert_eq!(bench.names().0, ["ready", "waits"]);
    assert_eq!(bench.config.extensions.keys().map(|name| &**name).collect::<Vec<_>>(), ["w"]);
    let router = bench.receive(Kind::Extension, vec![extension("w", "router.v3.Router")], &[]);
    assert_eq!(router.refused, ["w: typed_config: the router ends its chain and cannot be discovered"]);
}
