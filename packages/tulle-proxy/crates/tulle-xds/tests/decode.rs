//! Resources as control planes send them, decoded or refused with the path of each field that is wrong.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, ScopedRouteConfiguration};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use tulle_balance::{LbPolicy, LocalityMode};
use tulle_config::listener::TransportProtocol;
use tulle_config::tls::{ClientCert, SecretOrigin, TlsVersion, TrustSource};
use tulle_config::{HttpProtocol, NetworkFilter, RouteSource, UpstreamTransport};
use tulle_route::redirects::CrossScheme;
use tulle_route::{ClusterName, ClusterTarget, MirrorHost, PathMatch, RouteAction};
use tulle_xds::decode::{Finding, Kind, Resource, resource};
use tulle_xds::json::{Messages, pack};

fn decode(kind: Kind, yaml: &str) -> Result<(Resource, Vec<Finding>), Vec<Finding>> {
    let messages = Messages::load();
    let any = match kind {
        Kind::Cluster => pack(&messages.parse::<Cluster>(yaml).unwrap()),
        Kind::Endpoints => pack(&messages.parse::<ClusterLoadAssignment>(yaml).unwrap()),
        Kind::Listener => pack(&messages.parse::<Listener>(yaml).unwrap()),
        Kind::Route => pack(&messages.parse::<RouteConfiguration>(yaml).unwrap()),
        Kind::Extension => pack(&messages.parse::<TypedExtensionConfig>(yaml).unwrap()),
        Kind::Scope => pack(&messages.parse::<ScopedRouteConfiguration>(yaml).unwrap()),
        Kind::Secret => pack(&messages.parse::<Secret>(yaml).unwrap()),
    };
    resource(kind, &any)
}

const INBOUND: &str = r#"
name: inbound|9001
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
traffic_direction: INBOUND
listener_filters:
- name: envoy.filters.listener.tls_inspector
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}
filter_chains:
- name: mtls
  filter_chain_match: {transport_protocol: tls, application_protocols: [h2, http/1.1]}
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      require_client_certificate: true
      common_tls_context:
        tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}
        alpn_protocols: [h2, http/1.1]
        tls_certificate_sds_secret_configs:
        - {name: default, sds_config: {api_config_source: {grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}
        combined_validation_context:
          default_validation_context:
            match_typed_subject_alt_names:
            - {san_type: URI, matcher: {prefix: "spiffe://cluster.local/"}}
          validation_context_sds_secret_config:
            {name: ROOTCA, sds_config: {api_config_source: {grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}
  filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: inbound_9001
      rds: {route_config_name: inbound|9001, config_source: {ads: {}}}
      access_log:
      - name: envoy.access_loggers.file
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
          path: /dev/stdout
          log_format: {json_format: {status: "%RESPONSE_CODE%", nested: {flags: "%RESPONSE_FLAGS%"}}}
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
      - name: unknown.filter
        is_optional: true
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.csrf.v3.CsrfPolicy}
"#;

#[test]
fn a_mutual_tls_listener() {
    // The optional unknown filter stands after the router here to show that it is left out, not that order is free.
    let (decoded, warnings) = decode(Kind::Listener, INBOUND).unwrap();
    let Resource::Listener(listener) = decoded else { panic!("not a listener") };
    assert!(listener.inspect.tls && listener.inspect.reads_first());
    let chain = &listener.chains[0];
    assert_eq!(chain.matches.transport_protocol, Some(TransportProtocol::Tls));
    let tls = chain.tls.as_ref().unwrap();
    assert_eq!(tls.client_cert, ClientCert::Required);
    assert_eq!((tls.common.min, tls.common.max), (TlsVersion::V1_3, TlsVersion::V1_3));
    let Some(TrustSource::Secret(roots)) = &tls.common.validation.trust else { panic!("no secret") };
    assert_eq!((&*roots.name, &roots.origin), ("ROOTCA", &SecretOrigin::Identity));
    assert_eq!(tls.common.validation.sans.len(), 1);
    let NetworkFilter::Http(hcm) = &chain.filter else { panic!("not HTTP") };
    assert!(matches!(&hcm.routes, RouteSource::Rds(name, _) if &**name == "inbound|9001"));
    assert_eq!(hcm.filters.len(), 1);
    assert_eq!(hcm.access_logs.len(), 1);
    assert!(warnings.iter().any(|warning| warning.message.contains("optional filter")), "{warnings:?}");
}

/// A listener with one log of such a format.
fn logging(format: &str) -> String {
    format!(
        r#"
name: l
address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}
filter_chains:
- filters:
  - name: t
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
      stat_prefix: t
      cluster: c
access_log:
- name: a
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
    log_format: {format}
"#
    )
}

#[test]
fn what_a_log_cannot_say_is_a_warning_and_what_nobody_knows_an_error() {
    let formatter = "formatters: [{name: q, typed_config: {'@type': \
        type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery}}]";
    let format = format!("{{json_format: {{a: '%UNIQUE_ID%', b: ['%PROTOCOL%']}}, {formatter}}}");
    let (_, warnings) = decode(Kind::Listener, &logging(&format)).unwrap();
    let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|warning| warning.contains("%UNIQUE_ID%") && warning.contains("json_format")), "{told:?}");
    let errors = decode(Kind::Listener, &logging("{json_format: {a: '%UNIQUE_IDS%'}}")).unwrap_err();
    assert!(errors[0].to_string().contains("unknown operator %UNIQUE_IDS%"), "{errors:?}");
}

const OUTBOUND: &str = r#"
name: outbound
virtual_hosts:
- name: backend.default.svc.cluster.local:80
  domains: [backend, "backend:80", backend.default, backend.default.svc.cluster.local]
  include_request_attempt_count: true
  routes:
  - name: internal
    match: {prefix: /, headers: [{name: User-Type, string_match: {exact: internal}}]}
    route: {cluster: "outbound|80|v2|backend.default.svc.cluster.local", timeout: 0s}
  - match: {path_separated_prefix: /api}
    route:
      weighted_clusters:
        clusters:
        - {name: "outbound|80|v1|backend.default.svc.cluster.local", weight: 90}
        - {name: "outbound|80|v2|backend.default.svc.cluster.local", weight: 10}
      regex_rewrite: {pattern: {regex: "^/api/(.*)$"}, substitution: '/\1'}
    request_headers_to_add: [{header: {key: X-From, value: "%PROTOCOL%"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
  - match: {path: /old}
    redirect: {path_redirect: /new, response_code: PERMANENT_REDIRECT}
- name: block_all
  domains: ["*"]
  routes: [{match: {prefix: /}, direct_response: {status: 502}}]
"#;

#[test]
fn an_outbound_route_configuration() {
    let (decoded, _) = decode(Kind::Route, OUTBOUND).unwrap();
    let Resource::Route(routes) = decoded else { panic!("not routes") };
    assert_eq!(routes.hosts.len(), 2);
    let host = &routes.hosts[0];
    assert_eq!(&*host.routes[0].matches.headers[0].name, "user-type");
    let RouteAction::Forward(first) = &host.routes[0].action else { panic!("not forwarded") };
    assert_eq!(first.timeouts.request, None, "0s switches the timeout off");
    let RouteAction::Forward(second) = &host.routes[1].action else { panic!("not forwarded") };
    let ClusterTarget::Weighted(arms) = &second.target else { panic!("not weighted") };
    assert_eq!(arms.iter().map(|arm| arm.weight).collect::<Vec<_>>(), [90, 10]);
    assert_eq!(host.routes[1].matches.path, PathMatch::SeparatedPrefix("/api".into()));
    assert!(matches!(&host.routes[2].action, RouteAction::Redirect(redirect) if redirect.status == 308));
    assert!(matches!(&routes.hosts[1].routes[0].action, RouteAction::Direct(direct) if direct.status == 502));
}

const CLUSTER: &str = r#"
name: "outbound|80|v1|backend.default.svc.cluster.local"
type: EDS
eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}
lb_policy: LEAST_REQUEST
common_lb_config: {healthy_panic_threshold: {value: 0}, locality_weighted_lb_config: {}}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: {http2_protocol_options: {}}
transport_socket_matches:
- name: tlsMode-istio
  match: {tlsMode: istio}
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      sni: outbound_.80_.v1_.backend.default.svc.cluster.local
      common_tls_context:
        alpn_protocols: [h2]
        tls_certificate_sds_secret_configs:
        - {name: default, sds_config: {api_config_source: {grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}
        combined_validation_context:
          default_validation_context:
            match_subject_alt_names: [{exact: "spiffe://cluster.local/ns/default/sa/backend"}]
          validation_context_sds_secret_config:
            {name: ROOTCA, sds_config: {api_config_source: {grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}
- name: tlsMode-disabled
  match: {}
  transport_socket:
    name: envoy.transport_sockets.raw_buffer
    typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}
outlier_detection: {consecutive_5xx: 3, base_ejection_time: 400s}
metadata: {filter_metadata: {istio: {services: [{host: backend, name: backend, namespace: default}]}}}
"#;

#[test]
fn a_mesh_cluster() {
    let (decoded, _) = decode(Kind::Cluster, CLUSTER).unwrap();
    let Resource::Cluster(cluster) = decoded else { panic!("not a cluster") };
    assert!(matches!(cluster.lb.policy, LbPolicy::LeastRequest { choices: 2, .. }));
    assert_eq!((cluster.lb.panic_threshold, cluster.lb.locality), (0.0, LocalityMode::Weighted));
    assert!(matches!(cluster.protocol, HttpProtocol::Http2(_)));
    let [mesh, plain] = &*cluster.transport_matches else { panic!("not two matches") };
    assert_eq!(mesh.criteria.get("tlsMode").map(|mode| &**mode), Some("istio"));
    assert!(matches!(mesh.transport, UpstreamTransport::Tls(_)));
    assert_eq!(plain.transport, UpstreamTransport::Plaintext);
    let outlier = cluster.outlier.as_ref().unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.max_ejection_time.as_secs()), (3, 400));
}

#[test]
fn endpoints_share_equal_metadata() {
    let endpoint = |port: u16| {
        format!(
            "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}, \
             metadata: {{filter_metadata: {{envoy.transport_socket_match: {{tlsMode: istio}}, \
             istio: {{workload: 'a;default;a;v1;'}}}}}}}}"
        )
    };
    let yaml = format!("{{cluster_name: c, endpoints: [{{lb_endpoints: [{}, {}]}}]}}", endpoint(1), endpoint(2));
    let (decoded, _) = decode(Kind::Endpoints, &yaml).unwrap();
    let Resource::Endpoints(_, set) = decoded else { panic!("not endpoints") };
    let endpoints = &set.localities[0].endpoints;
    assert!(std::sync::Arc::ptr_eq(&endpoints[0].metadata, &endpoints[1].metadata));
    assert_eq!(endpoints[0].metadata.workload.as_deref(), Some("a;default;a;v1;"));
}

#[test]
fn secrets_do_not_show_their_keys() {
    let yaml = "{name: s, tls_certificate: {certificate_chain: {inline_string: CHAIN}, private_key: {inline_string: TOPSECRET}}}";
    let (decoded, _) = decode(Kind::Secret, yaml).unwrap();
    assert!(!format!("{decoded:?}").contains("TOPSECRET"));
}

fn with_template(template: &str, rewrite: &str) -> String {
    format!(
        "{{name: r, virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{path_match_policy: {{name: m, typed_config: \
         {{'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, \
         path_template: '{template}'}}}}}}, route: {{cluster: c, path_rewrite_policy: {{name: w, typed_config: \
         {{'@type': type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig, \
         path_template_rewrite: '{rewrite}'}}}}}}}}]}}]}}"
    )
}

fn with_redirects(policy: &str) -> String {
    OUTBOUND.replace("timeout: 0s", &format!("timeout: 0s, internal_redirect_policy: {{{policy}}}"))
}

fn with_replies(mapper: &str) -> String {
    INBOUND.replace("      rds: {", &format!("      local_reply_config: {{mappers: [{mapper}]}}\n      rds: {{"))
}

#[test]
fn redirects_and_own_answers_are_decoded() {
    let redirects = |yaml: &str| {
        let (Resource::Route(routes), _) = decode(Kind::Route, yaml).unwrap() else { panic!("not routes") };
        let RouteAction::Forward(forward) = &routes.hosts[0].routes[0].action else { panic!("not forwarded") };
        forward.internal_redirects.clone()
    };
    assert_eq!(redirects(OUTBOUND), None);
    let policy =
        redirects(&with_redirects("redirect_response_codes: [301, 200], allow_cross_scheme_redirect: true")).unwrap();
    assert_eq!((policy.max, &*policy.statuses, policy.cross_scheme), (1, &[301][..], CrossScheme::Followed));
    // The deprecated fields.
    let old = OUTBOUND.replace(
        "timeout: 0s",
        "timeout: 0s, internal_redirect_action: HANDLE_INTERNAL_REDIRECT, max_internal_redirects: 4",
    );
    let policy = redirects(&old).unwrap();
    assert_eq!((policy.max, &*policy.statuses, policy.cross_scheme), (4, &[302][..], CrossScheme::Refused));
    let mapper = "{filter: {response_flag_filter: {flags: [NR]}}, status_code: 410, body: {inline_string: gone}, \
                  body_format_override: {json_format: {text: '%LOCAL_REPLY_BODY%'}}}";
    let (Resource::Listener(listener), _) = decode(Kind::Listener, &with_replies(mapper)).unwrap() else { panic!() };
    let NetworkFilter::Http(hcm) = &listener.chains[0].filter else { panic!("not HTTP") };
    let mapper = &hcm.local_reply.as_ref().unwrap().mappers[0];
    assert_eq!((mapper.status, mapper.body.as_deref()), (Some(410), Some(&b"gone"[..])));
    assert_eq!(&*mapper.format.as_ref().unwrap().content_type, "application/json");
}

#[test]
fn mirrors_are_inherited_where_nothing_is_said() {
    let yaml = "{name: r, request_mirror_policies: [{cluster: outer}], virtual_hosts: [\
        {name: a, domains: [a], request_mirror_policies: [{cluster: middle}], routes: [\
          {match: {prefix: /own}, route: {cluster: c, request_mirror_policies: [{cluster: own, host_rewrite_literal: h}]}},\
          {match: {prefix: /}, route: {cluster: c}}]},\
        {name: b, domains: [b], routes: [{match: {prefix: /}, route: {cluster: c}}]}]}";
    let (Resource::Route(routes), _) = decode(Kind::Route, yaml).unwrap() else { panic!("not routes") };
    let mirrors = |host: usize, route: usize| {
        let RouteAction::Forward(forward) = &routes.hosts[host].routes[route].action else { panic!("not forwarded") };
        forward.mirrors.iter().map(|mirror| (mirror.cluster.clone(), mirror.host.clone())).collect::<Vec<_>>()
    };
    assert_eq!(mirrors(0, 0), [(ClusterName::Is("own".into()), MirrorHost::Is("h".into()))]);
    assert_eq!(mirrors(0, 1), [(ClusterName::Is("middle".into()), MirrorHost::Shadow)]);
    assert_eq!(mirrors(1, 0), [(ClusterName::Is("outer".into()), MirrorHost::Shadow)]);
}

#[test]
fn what_is_wrong_is_refused_with_its_path() {
    let cases = [
        (Kind::Route, OUTBOUND.replace("weight: 90", "weight: 0").replace("weight: 10", "weight: 0"),
         "virtual_hosts[0].routes[1].route.weighted_clusters.clusters: weights must sum"),
        (Kind::Route, OUTBOUND.replace(r"'/\1'", r"'/\2'"),
         "virtual_hosts[0].routes[1].route.regex_rewrite.substitution: \\2 has no group in the pattern"),
        (Kind::Route, OUTBOUND.replace("domains: [\"*\"]", "domains: [backend]"),
         "virtual_hosts: the domain \"backend\" appears in both"),
        (Kind::Route, OUTBOUND.replace("status: 502", "status: 99"),
         "virtual_hosts[1].routes[0].direct_response.status: 99 is not between"),
        (Kind::Route, OUTBOUND.replace("key: X-From", "key: 'X From'"),
         "virtual_hosts[0].routes[1].request_headers_to_add[0].header.key: \"x from\" is not a header name"),
        (Kind::Route, OUTBOUND.replace("match: {path: /old}", "match: {path: /old, filter_state: [{key: k, string_match: {exact: v}}]}"),
         "virtual_hosts[0].routes[2].match.filter_state: is not supported"),
        (Kind::Route, OUTBOUND.replace("key: X-From", "key: Host"),
         "virtual_hosts[0].routes[1].request_headers_to_add[0].header.key: pseudo-headers and host cannot be changed"),
        (Kind::Route, with_template("/{a}", "/{b}"),
         "route.path_rewrite_policy.typed_config.path_template_rewrite: invalid path template \"/{b}\": a variable is not in"),
        (Kind::Route, with_template("/a//b", "/"),
         "match.path_match_policy.typed_config.path_template: invalid path template \"/a//b\": a segment is empty"),
        (Kind::Route, with_template("/{a}", "/{a}").replace("route: {", "route: {prefix_rewrite: /, "),
         "route: only one of prefix_rewrite, regex_rewrite, path_rewrite_policy and path_rewrite"),
        (Kind::Route, with_redirects("predicates: [{name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]"),
         "internal_redirect_policy.predicates[0].typed_config: the redirect predicate envoy.extensions.filters.http.router.v3.Router is not supported"),
        (Kind::Route, with_redirects("response_headers_to_copy: [':path']"),
         "internal_redirect_policy.response_headers_to_copy[0]: \":path\" cannot be copied"),
        (Kind::Listener, with_replies("{filter: {extension_filter: {name: k}}}"),
         "typed_config.local_reply_config.mappers[0].filter: this kind of access log filter is not supported"),
        (Kind::Listener, with_replies("{filter: {not_health_check_filter: {}}, status_code: 99}"),
         "typed_config.local_reply_config.mappers[0].status_code: 99 is not between"),
        (Kind::Listener, with_replies("{filter: {not_health_check_filter: {}}, body_format_override: {text_format: '%NOPE%'}}"),
         "mappers[0].body_format_override.text_format: at byte 0: unknown operator %NOPE%"),
        (Kind::Listener, INBOUND.replace("is_optional: true", "is_optional: false"),
         "filter_chains[0].filters[0].typed_config.http_filters[1].typed_config: the HTTP filter envoy.extensions.filters.http.csrf.v3.CsrfPolicy is not supported"),
        (Kind::Listener, INBOUND.replace("port_value: 0", "port_value: 0, network_namespace_filepath: /nowhere"),
         "address.socket_address.network_namespace_filepath: the network namespace /nowhere cannot be opened: No such file"),
        (Kind::Cluster, format!("{CLUSTER}upstream_bind_config: {{source_address: {{address: 0.0.0.0, port_value: 0, network_namespace_filepath: /nowhere}}}}\n"),
         "upstream_bind_config.source_address.network_namespace_filepath: the network namespace /nowhere cannot be opened"),
        (Kind::Endpoints, "{cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1, network_namespace_filepath: /x}}}}]}]}".to_owned(),
         "endpoint.address.socket_address.network_namespace_filepath: is not supported"),
        (Kind::Listener, INBOUND.replace("alpn_protocols: [h2, http/1.1]\n", "key_log: {path: /tmp/keys}\n"),
         "common_tls_context.key_log: is not supported"),
        (Kind::Listener, INBOUND.replace("rds: {route_config_name: inbound|9001, config_source: {ads: {}}}", "rds: {route_config_name: inbound|9001, config_source: {api_config_source: {api_type: REST}}}"),
         "rds.config_source.api_config_source: is not supported: it must be ads or path_config_source"),
        (Kind::Cluster, CLUSTER.replace("sds-grpc", "elsewhere"),
         "sds_config.api_config_source: is not supported: it must be ads or path_config_source"),
        (Kind::Cluster, CLUSTER.replace("value: 0}", "value: 101}"),
         "common_lb_config.healthy_panic_threshold: 101 is not between 0 and 100"),
        (Kind::Cluster, CLUSTER.replace("lb_policy: LEAST_REQUEST", "lb_policy: MAGLEV\nmaglev_lb_config: {table_size: 100}"),
         "table_size: must be a prime"),
        (Kind::Endpoints, "{cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: host.example, port_value: 1}}}}]}]}".to_owned(),
         "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: \"host.example\" is not an IP address"),
        (Kind::Endpoints, "{cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 70000}}}}]}]}".to_owned(),
         "port_value: is beyond 65535"),
        (Kind::Secret, "{name: s, generic_secret: {secret: {inline_string: x}}}".to_owned(), "only tls_certificate and validation_context"),
    ];
    for (kind, yaml, expected) in cases {
        let findings = decode(kind, &yaml).map(|_| ()).expect_err(expected);
        let text = findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n");
        assert!(text.contains(expected), "{expected:?} is not in {text:?}");
    }
}

#[test]
fn a_message_of_another_type_or_cut_short_is_refused() {
    let mut any = pack(&Messages::load().parse::<RouteConfiguration>(OUTBOUND).unwrap());
    assert!(resource(Kind::Cluster, &any).unwrap_err()[0].message.contains("not a envoy.config.route.v3"));
    any.value.truncate(any.value.len() - 3);
    assert!(resource(Kind::Route, &any).unwrap_err()[0].message.contains("is not a valid"));
}

#[test]
fn a_packed_message_prints_as_json_with_its_type() {
    let any = pack(&Messages::load().parse::<RouteConfiguration>(OUTBOUND).unwrap());
    let json = Messages::load().any_to_json(&any.type_url, &any.value);
    assert_eq!(json["@type"], "type.googleapis.com/envoy.config.route.v3.RouteConfiguration");
    assert_eq!(json["virtual_hosts"][1]["name"], "block_all");
    assert!(Messages::load().any_to_json("type.googleapis.com/unknown.Type", b"").get("@type").is_some());
}
