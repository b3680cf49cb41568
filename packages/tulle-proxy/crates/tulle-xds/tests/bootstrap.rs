//! Bootstrap files as people write them: YAML and JSON, snake and camel case, and what is refused with its field.

use std::time::Duration;

use tulle_config::{Discovery, HttpFilter, HttpProtocol, NetworkFilter, Patience, RouteSource, UpstreamTransport};
use tulle_policy::RetryOn;
use tulle_route::{ClusterTarget, RouteAction};
use tulle_xds::bootstrap::load;

/// A static front proxy as in the tutorials, with the router filter given by name alone.
const SIMPLIFIED: &str = r#"
static_resources:
  listeners:
  - name: listener_0
    address:
      socket_address:
        address: 0.0.0.0
        port_value: 15001
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress_http
          route_config:
            name: local_route
            virtual_hosts:
            - name: backend
              domains: ["*"]
              routes:
              - match:
                  prefix: "/"
                route:
                  cluster: backend_cluster
                  timeout: 5s
                  retry_policy:
                    retry_on: "5xx"
                    num_retries: 3
          http_filters:
          - name: envoy.filters.http.router

  clusters:
  - name: backend_cluster
    connect_timeout: 1s
    type: STRICT_DNS
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: backend_cluster
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address:
                address: backend-service
                port_value: 8080
    # Health checking
    health_checks:
    - timeout: 1s
      interval: 5s
      unhealthy_threshold: 3
      healthy_threshold: 2
      http_health_check:
        path: "/health"
    # Circuit breaking
    circuit_breakers:
      thresholds:
      - priority: DEFAULT
        max_connections: 1000
        max_pending_requests: 100
        max_requests: 1000
        max_retries: 3
"#;

#[test]
fn a_static_configuration_loads_as_printed() {
    let loaded = load(SIMPLIFIED).unwrap();
    let resources = &loaded.bootstrap.resources;
    let listener = &resources.listeners[0];
    assert_eq!(listener.address.to_string(), "0.0.0.0:15001");
    let NetworkFilter::Http(hcm) = &listener.chains[0].filter else { panic!("not HTTP") };
    assert!(matches!(hcm.filters.as_slice(), [HttpFilter::Router(_)]));
    let RouteSource::Inline(routes) = &hcm.routes else { panic!("not inline") };
    let RouteAction::Forward(forward) = &routes.hosts[0].routes[0].action else { panic!("not forwarded") };
    assert!(matches!(&forward.target, ClusterTarget::Single(name) if &**name == "backend_cluster"));
    assert_eq!(forward.timeouts.request, Some(Duration::from_secs(5)));
    let retry = forward.retry.as_ref().unwrap();
    assert!(retry.on.contains(RetryOn::SERVER_ERROR));
    assert_eq!(retry.num_retries, 3);

    let cluster = &resources.clusters[0];
    let Discovery::StrictDns(dns) = &cluster.discovery else { panic!("not DNS") };
    assert_eq!(dns.endpoints[0].address.to_string(), "backend-service:8080");
    assert_eq!(cluster.connect_timeout, Duration::from_secs(1));
    assert!(matches!(cluster.protocol, HttpProtocol::Http1(_)));
    assert_eq!(cluster.transport, UpstreamTransport::Plaintext);
    assert_eq!(cluster.health_checks[0].unhealthy_threshold, 3);
    assert_eq!(cluster.circuit_breakers.default.max_pending_requests, 100);
    assert!(loaded.bootstrap.warnings.is_empty(), "{:?}", loaded.bootstrap.warnings);
}

const DYNAMIC: &str = r#"
node:
  id: sidecar~127.0.0.1~backend-v1.default~default.svc.cluster.local
  cluster: backend-v1.default
  metadata: {NAMESPACE: default, LABELS: {app: backend, version: v1}}
admin:
  address: {socketAddress: {address: 127.0.0.1, portValue: 0}}
dynamic_resources:
  lds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 5s}
  cds_config: {ads: {}, resource_api_version: V3}
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: xds-grpc}}]
static_resources:
  clusters:
  - name: xds-grpc
    type: STATIC
    connect_timeout: 0.25s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {connection_keepalive: {interval: 10s, timeout: 5s}}}
    load_assignment:
      cluster_name: xds-grpc
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 15012}}}}]}]
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: tulle-control-plane
        common_tls_context:
          tls_params: {tls_minimum_protocol_version: TLSv1_3}
          tls_certificate_sds_secret_configs:
          - name: default
            sds_config:
              api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}
          validation_context_sds_secret_config:
            name: ROOTCA
            sds_config:
              api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}
"#;

#[test]
fn a_mesh_bootstrap_names_its_control_plane() {
    let loaded = load(DYNAMIC).unwrap();
    let bootstrap = &loaded.bootstrap;
    assert_eq!(&*bootstrap.node.cluster, "backend-v1.default");
    let labels = bootstrap.node.metadata["LABELS"].as_struct().unwrap();
    assert_eq!(labels["version"].as_str(), Some("v1"));
    let ads = bootstrap.ads.as_ref().unwrap();
    assert_eq!((&*ads.cluster, ads.clusters), ("xds-grpc", Some(Patience::default())));
    assert_eq!(ads.listeners, Some(Patience::For(Duration::from_secs(5))));
    let UpstreamTransport::Tls(tls) = &bootstrap.resources.clusters[0].transport else { panic!("plaintext") };
    assert_eq!(tls.sni.as_deref(), Some("tulle-control-plane"));
    assert_eq!(tls.common.certificates.len(), 1);
    let HttpProtocol::Http2(options) = &bootstrap.resources.clusters[0].protocol else { panic!("not h2") };
    assert_eq!(options.keepalive.unwrap().timeout, Duration::from_secs(5));
}

#[test]
fn json_is_read_as_well() {
    let loaded = load(
        r#"{"node": {"id": "a", "cluster": "b"}, "admin": {"address": {"socket_address": {"address": "::1", "port_value": 1}}}}"#,
    );
    assert_eq!(loaded.unwrap().bootstrap.admin.unwrap().to_string(), "[::1]:1");
}

#[test]
fn mistakes_name_their_field() {
    let cases = [
        (SIMPLIFIED.replace("stat_prefix: ingress", "stat_prefx: ingress"), "stat_prefx"),
        (SIMPLIFIED.replace("timeout: 5s", "timeout: soon"), "static_resources.listeners[0].filter_chains[0]"),
        (SIMPLIFIED.replace("lb_policy: ROUND_ROBIN", "lb_policy: FASTEST"), "static_resources.clusters[0].lb_policy"),
        (
            SIMPLIFIED.replace("type: STRICT_DNS", "type: STATIC"),
            "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: \
             \"backend-service\" is not an IP address",
        ),
        (
            SIMPLIFIED.replace("envoy.filters.http.router", "envoy.filters.http.lua"),
            "filters[0].typed_config.http_filters[0]: the HTTP filter \"envoy.filters.http.lua\" is not supported",
        ),
        (
            SIMPLIFIED.replace("prefix: \"/\"", "safe_regex: {regex: \"a(\"}"),
            "route_config.virtual_hosts[0].routes[0].match.safe_regex: invalid regular expression",
        ),
        (SIMPLIFIED.replace("domains: [\"*\"]", "domains: []"), "virtual_hosts[0].domains: must not be empty"),
        (
            SIMPLIFIED.replace("      interval: 5s\n", ""),
            "static_resources.clusters[0].health_checks[0].interval: is required",
        ),
        (DYNAMIC.replace("name: xds-grpc\n    type", "name: other\n    type"), "\"xds-grpc\" does not exist"),
        (SIMPLIFIED.replace("connect_timeout: 1s", "connect_timeout: 1s\n    connect_timeout: 2s"), "connect_timeout"),
        ("static_resources: [".to_owned(), "not valid YAML"),
    ];
    for (text, expected) in cases {
        let error = load(&text).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let text = SIMPLIFIED.replace("domains: [\"*\"]", "domains: []").replace("      interval: 5s\n", "");
    let error = load(&text).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 2, "{error}");
}

#[test]
fn the_overload_manager_is_read_whole_or_refused() {
    use tulle_config::overload::Monitor;
    use tulle_policy::overload::{ActionKind, ShedPoint, Trigger};
    let heap = "{name: heap, typed_config: {'@type': type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 1000}}";
    let connections = "{name: envoy.resource_monitors.global_downstream_max_connections, typed_config: {'@type': type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 9}}";
    let group = "{name: group, typed_config: {'@type': type.googleapis.com/envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig}}";
    let good = format!(
        "overload_manager: {{refresh_interval: 0.25s, resource_monitors: [{heap}, {connections}, {group}], actions: \
         [{{name: envoy.overload_actions.shrink_heap, triggers: [{{name: heap, scaled: {{scaling_threshold: 0.8, saturation_threshold: 0.9}}}}]}}], loadshed_points: \
         [{{name: envoy.load_shed_points.tcp_listener_accept, triggers: [{{name: group, threshold: {{value: 1}}}}]}}]}}"
    );
    let manager = load(&good).unwrap().bootstrap.overload.unwrap();
    assert_eq!((manager.max_connections, manager.refresh.as_millis()), (Some(9), 250));
    assert_eq!(*manager.monitors, [Monitor::Heap(1000), Monitor::Cgroup(None)]);
    assert_eq!(manager.actions[0].kind, ActionKind::ShrinkHeap);
    assert_eq!(*manager.actions[0].triggers, [(0, Trigger::Scaled { from: 0.8, full: 0.9 })]);
    assert_eq!(manager.actions[1].kind, ActionKind::Shed(ShedPoint::Accept));
    assert_eq!(*manager.actions[1].triggers, [(1, Trigger::Threshold(1.0))]);
    let wrong = format!(
        "overload_manager: {{refresh_interval: 0s, resource_monitors: [{heap}], loadshed_points: [{{name: a}}], actions: \
         [{{name: envoy.overload_actions.reduce_timeouts, triggers: [{{name: heap, threshold: {{value: 1}}}}]}}, \
         {{name: envoy.overload_actions.shrink_heap, triggers: [{{name: cpu, threshold: {{value: 1.5}}}}]}}]}}"
    );
    let said = load(&wrong).unwrap_err().to_string();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "overload_manager.refresh_interval: must be more than zero",
            "overload_manager.actions[0].name: the action \"envoy.overload_actions.reduce_timeouts\" is not supported",
            "overload_manager.actions[1].triggers[0].name: \"cpu\" is not watched",
            "overload_manager.actions[1].triggers[0].threshold.value: 1.5 is not between 0 and 1",
            "overload_manager.loadshed_points[0].name: the load-shed point \"a\" is not supported",
        ]
    );
}

/// As `SPELT`, in the spellings that Envoy takes beside the canonical ones.
const OTHERWISE: &str = r#"
static_resources:
  clusters:
    name: one
    type: strict_dns
    connect_timeout: {seconds: 1, nanos: 500000000}
    lb_policy: least-request
    ignore_health_on_host_removal: yes
    per_connection_buffer_limit_bytes: {value: 4096}
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/xds.type.v3.TypedStruct
        type_url: type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        value: {sni: a, common_tls_context: {alpn_protocols: h2}}
    load_assignment:
      cluster_name: one
      endpoints: {lb_endpoints: {endpoint: {address: {socket_address: {protocol: tcp, address: localhost, port_value: "80"}}}}}
"#;

const SPELT: &str = r#"
static_resources:
  clusters:
  - name: one
    type: STRICT_DNS
    connect_timeout: 1.5s
    lb_policy: LEAST_REQUEST
    ignore_health_on_host_removal: true
    per_connection_buffer_limit_bytes: 4096
    transport_socket:
      name: tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: a
        common_tls_context: {alpn_protocols: [h2]}
    load_assignment:
      cluster_name: one
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {protocol: TCP, address: localhost, port_value: 80}}}
"#;

#[test]
fn what_envoy_reads_in_other_spellings_is_read() {
    let loaded = |text: &str| format!("{:?}", load(text).unwrap().bootstrap);
    assert_eq!(loaded(OTHERWISE), loaded(SPELT));
}

#[test]
fn a_type_that_is_not_built_in_is_refused_where_it_would_have_an_effect() {
    let with = |rest: &str| load(&format!("static_resources: {{}}\n{rest}"));
    let ignored = with("bootstrap_extensions: [{name: a, typed_config: {\"@type\": t/acme.Unknown, field: {b: [1]}}}]");
    assert_eq!(ignored.unwrap().bootstrap.warnings, ["bootstrap_extensions: has no effect"]);

    let filter = "{\"@type\": t/acme.Unknown, field: 1}";
    let listener = SIMPLIFIED.replace("http_filters:", &format!("http_filters: [{{name: x, typed_config: {filter}}}]"));
    let listener = listener.replace("          - name: envoy.filters.http.router\n", "");
    let refused = load(&listener).unwrap_err().to_string();
    let place = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config";
    assert!(refused.contains(&format!("{place}: the HTTP filter acme.Unknown is not supported")), "{refused}");
}

#[test]
fn names_that_a_cluster_looks_up_are_looked_up_by_the_system() {
    let cluster = |typed: &str| {
        load(&format!(
            "static_resources: {{clusters: [{{name: a, cluster_type: {{name: envoy.clusters.dns, typed_config: {{\
             \"@type\": t/envoy.extensions.clusters.dns.v3.DnsCluster, dns_refresh_rate: 7s, {typed}}}}}, \
             load_assignment: {{cluster_name: a, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: \
             {{address: localhost, port_value: 80}}}}}}}}]}}]}}}}]}}"
        ))
    };
    let cares = "typed_dns_resolver_config: {name: c, typed_config: {\
                 \"@type\": t/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, rotate_nameservers: true";
    let strict = cluster(&format!("dns_lookup_family: V4_ONLY, {cares}}}}}")).unwrap();
    let Discovery::StrictDns(dns) = &strict.bootstrap.resources.clusters[0].discovery else { panic!("not DNS") };
    assert_eq!(dns.refresh, Duration::from_secs(7));
    let logical = cluster("all_addresses_in_single_endpoint: true").unwrap();
    assert!(matches!(logical.bootstrap.resources.clusters[0].discovery, Discovery::LogicalDns(_)));

    let own = "resolvers: [{socket_address: {address: 127.0.0.1, port_value: 53}}]";
    let refused = cluster(&format!("{cares}, {own}}}}}")).unwrap_err().to_string();
    assert!(refused.starts_with("static_resources.clusters[0].cluster_type.typed_config.typed_dns_resolver_config"));
}

#[test]
fn the_deprecated_way_to_ask_for_the_proxy_protocol_is_taken() {
    let proxied = SIMPLIFIED.replace(
        "    filter_chains:\n    - filters:",
        "    filter_chains:\n    - use_proxy_proto: true\n      filters:",
    );
    assert!(load(&proxied).unwrap().bootstrap.resources.listeners[0].inspect.proxy_protocol.is_some());
    assert!(load(SIMPLIFIED).unwrap().bootstrap.resources.listeners[0].inspect.proxy_protocol.is_none());
}

#[test]
fn servers_are_checked_by_the_name_that_they_are_called_by() {
    let options = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\
                   \"@type\": t/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http_protocol_options: {}}, \
                   upstream_http_protocol_options: {auto_sni: true, auto_san_validation: true}}}";
    let tls = "transport_socket: {name: tls, typed_config: {\"@type\": t/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}";
    let loaded = load(&format!("static_resources: {{clusters: [{{name: a, {options}, {tls}}}]}}")).unwrap();
    let name = loaded.bootstrap.resources.clusters[0].tls_name.as_ref().unwrap();
    assert!(name.sent && name.verified && name.header.is_none());
}

#[test]
fn a_static_table_names_clusters_that_exist() {
    let mistaken = SIMPLIFIED.replace("cluster: backend_cluster", "cluster: backend_clutser");
    let refused = load(&mistaken).unwrap_err().to_string();
    let place =
        "route_config.virtual_hosts[0].routes[0].route.cluster: the static cluster \"backend_clutser\" does not exist";
    assert!(refused.contains(place), "{refused}");
    load(&mistaken.replace("name: local_route", "validate_clusters: false")).unwrap();
}
