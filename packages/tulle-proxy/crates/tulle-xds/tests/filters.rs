//! HTTP and network filters as control planes send them, on chains and on routes, and what is wrong with them by path.

use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use tulle_config::{ConnectionCheck, HttpFilter, NetworkFilter};
use tulle_policy::FilterOverride;
use tulle_policy::fault::{AbortWith, DelayLength};
use tulle_policy::rbac::{Action, Facts, NoRequest, Peer};
use tulle_policy::session::SessionStore;
use tulle_route::{ClusterTarget, RouteAction};
use tulle_xds::decode::{Finding, Kind, Resource, resource};
use tulle_xds::json::{Messages, pack};

const LISTENER: &str = r#"
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
filter_chains:
- filters:
  - name: connections
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC
      stat_prefix: tcp
      rules:
        action: DENY
        policies: {far: {permissions: [{any: true}], principals: [{not_id: {source_ip: {address_prefix: 127.0.0.0, prefix_len: 8}}}]}}
  - name: authorizer
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz
      stat_prefix: tcp
      transport_api_version: V3
      grpc_service: {envoy_grpc: {cluster_name: judge}}
  - name: hcm
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: s
      rds: {route_config_name: r, config_source: {ads: {}}}
      http_filters:
      - name: rules
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
          rules:
            action: ALLOW
            policies:
              p:
                permissions: [{destination_port_range: {start: 80, end: 90}}]
                principals: [{authenticated: {principal_name: {exact: spiffe://a/ns/b/sa/c}}}]
      - name: fault
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
          delay: {fixed_delay: 7s, percentage: {numerator: 100}}
          abort: {http_status: 503, percentage: {numerator: 1}}
      - name: limit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: l
          token_bucket: {max_tokens: 5, fill_interval: 1s}
      - name: session
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession
          strict: true
          status_on_strict_destination_not_found: 410
          session_state:
            name: cookie
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState
              cookie: {name: sticky, path: /app, ttl: 60s}
      - {name: envoy.filters.http.cors}
      - {name: envoy.filters.http.router}
"#;

const ROUTES: &str = r#"
name: r
virtual_hosts:
- name: h
  domains: ["*"]
  typed_per_filter_config:
    envoy.filters.http.cors:
      "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
      allow_origin_string_match: [{exact: "https://a"}]
      allow_methods: GET
  routes:
  - match: {prefix: /}
    route:
      cors: {allow_methods: PUT}
      weighted_clusters:
        clusters:
        - name: a
          weight: 1
          typed_per_filter_config:
            fault:
              "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
              abort: {grpc_status: 14, percentage: {numerator: 1}}
    typed_per_filter_config:
      rules: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute}
      envoy.filters.http.cors:
        "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
        allow_headers: x
      limit: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}
"#;

fn decode(kind: Kind, yaml: &str) -> Result<(Resource, Vec<Finding>), Vec<Finding>> {
    let messages = Messages::load();
    let any = match kind {
        Kind::Listener => pack(&messages.parse::<Listener>(yaml).unwrap()),
        _ => pack(&messages.parse::<RouteConfiguration>(yaml).unwrap()),
    };
    resource(kind, &any)
}

fn facts(source: &str, peer: Peer<'static>) -> Facts<'static> {
    let direct = source.parse().unwrap();
    Facts { destination: ([10, 0, 0, 1], 85).into(), direct, remote: direct, server_name: None, peer, metadata: None }
}

#[test]
fn filters_of_a_chain_are_decoded_in_order() {
    let (decoded, warnings) = decode(Kind::Listener, LISTENER).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let Resource::Listener(listener) = decoded else { panic!("not a listener") };
    let chain = &listener.chains[0];
    let [ConnectionCheck::Rules(connections), ConnectionCheck::Authorizer(asked)] = &chain.access[..] else {
        panic!("not rules and an authorizer")
    };
    let connections = connections.enforced.as_ref().unwrap();
    let limit = Some(Duration::from_millis(200));
    assert_eq!((&*asked.service.cluster, asked.service.timeout, asked.fail_open), ("judge", limit, false));
    assert_eq!(connections.action(), Action::Deny);
    assert!(connections.decide(&facts("10.0.0.1", Peer::Anonymous), &NoRequest).is_denied());
    assert!(!connections.decide(&facts("127.0.0.1", Peer::Anonymous), &NoRequest).is_denied());
    let NetworkFilter::Http(hcm) = &chain.filter else { panic!("not HTTP") };
    let [
        HttpFilter::Rbac(rules),
        HttpFilter::Fault(fault),
        HttpFilter::LocalRateLimit(limit),
        HttpFilter::Session(session),
        HttpFilter::Cors(_),
        HttpFilter::Router(_),
    ] = &hcm.filters[..]
    else {
        panic!("{:?}", hcm.filters)
    };
    assert_eq!(&*rules.name, "rules");
    let rules = rules.settings.enforced.as_ref().unwrap();
    assert!(rules.decide(&facts("10.0.0.1", Peer::Anonymous), &NoRequest).is_denied());
    assert!(!rules.decide(&facts("10.0.0.1", Peer::Named("spiffe://a/ns/b/sa/c")), &NoRequest).is_denied());
    assert!(matches!(fault.settings.delay.unwrap().length, DelayLength::Fixed(length) if length.as_secs() == 7));
    assert!(session.settings.strict && session.settings.gone_status == 410);
    let Some(SessionStore::Cookie(cookie)) = &session.settings.store else { panic!("no cookie") };
    assert_eq!((&*cookie.name, &*cookie.path, cookie.ttl.as_secs()), ("sticky", "/app", 60));
    assert_eq!(limit.settings.bucket.as_ref().unwrap().config().tokens_per_fill, 1);
}

#[test]
fn routes_say_otherwise_and_inherit_cross_origin_policies() {
    let (decoded, _) = decode(Kind::Route, ROUTES).unwrap();
    let Resource::Route(config) = decoded else { panic!("not routes") };
    let route = &config.hosts[0].routes[0];
    assert!(matches!(route.filters.get("rules"), Some(FilterOverride::Off)));
    assert!(matches!(route.filters.get("limit"), Some(FilterOverride::Off)));
    assert!(route.filters.get("fault").is_none());
    let Some(FilterOverride::Cors(cors)) = route.filters.get("envoy.filters.http.cors") else { panic!("no policy") };
    assert_eq!((&*cors.allow_methods, &*cors.allow_headers, cors.origins.len()), ("GET", "x", 1));
    let RouteAction::Forward(forward) = &route.action else { panic!("does not forward") };
    let ClusterTarget::Weighted(arms) = &forward.target else { panic!("is not weighted") };
    let Some(FilterOverride::Fault(fault)) = arms[0].filters.get("fault") else { panic!("no fault") };
    assert_eq!(fault.abort.as_ref().unwrap().with, AbortWith::Grpc(14));
}

#[test]
fn nonsense_is_refused_with_its_path() {
    let rules = "filter_chains[0].filters[2].typed_config.http_filters[0].typed_config.rules";
    let cases = [
        (
            Kind::Listener,
            "permissions: [{destination_port_range: {start: 80, end: 90}}]",
            "permissions: []",
            format!("{rules}.policies[p].permissions: must not be empty"),
        ),
        (
            Kind::Listener,
            "{destination_port_range: {start: 80, end: 90}}",
            "{destination_port_range: {start: 90, end: 80}}",
            format!("{rules}.policies[p].permissions[0].destination_port_range: must be within"),
        ),
        (
            Kind::Listener,
            "{destination_port_range: {start: 80, end: 90}}",
            "{not_rule: {url_path: {path: {safe_regex: {regex: '('}}}}}",
            format!("{rules}.policies[p].permissions[0].not_rule.url_path.path.safe_regex: invalid regular expression"),
        ),
        (
            Kind::Listener,
            "{destination_port_range: {start: 80, end: 90}}",
            "{any: false}",
            format!("{rules}.policies[p].permissions[0].any: must be true"),
        ),
        (
            Kind::Listener,
            "{authenticated: {principal_name: {exact: spiffe://a/ns/b/sa/c}}}",
            "{filter_state: {key: k, string_match: {exact: v}}}",
            format!("{rules}.policies[p].principals[0].filter_state: is not supported"),
        ),
        (
            Kind::Listener,
            "{authenticated: {principal_name: {exact: spiffe://a/ns/b/sa/c}}}",
            "{}",
            format!("{rules}.policies[p].principals[0].identifier: is required"),
        ),
        (
            Kind::Listener,
            "http_status: 503",
            "http_status: 99",
            "http_filters[1].typed_config.abort.http_status: 99 is not".to_owned(),
        ),
        (
            Kind::Listener,
            "fixed_delay: 7s",
            "fixed_delay: 0s",
            "typed_config.delay.fixed_delay: must be more than zero".to_owned(),
        ),
        (
            Kind::Listener,
            "max_tokens: 5",
            "max_tokens: 0",
            "typed_config.token_bucket.max_tokens: must be more".to_owned(),
        ),
        (
            Kind::Listener,
            "      stat_prefix: tcp\n",
            "",
            "filter_chains[0].filters[0].typed_config.stat_prefix: is required".to_owned(),
        ),
        (
            Kind::Listener,
            "path: /app,",
            "path: '/app; Secure',",
            "http_filters[3].typed_config.session_state.typed_config.cookie.path: \"/app; Secure\" cannot".to_owned(),
        ),
        (
            Kind::Listener,
            "status_on_strict_destination_not_found: 410",
            "status_on_strict_destination_not_found: 99",
            "status_on_strict_destination_not_found: 99 is not between".to_owned(),
        ),
        (
            Kind::Route,
            "rules: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute}",
            "rules: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}",
            "virtual_hosts[0].routes[0].typed_per_filter_config[rules]: per-route settings of type".to_owned(),
        ),
    ];
    for (kind, old, new, expected) in cases {
        let yaml = if kind == Kind::Listener { LISTENER } else { ROUTES };
        assert!(yaml.contains(old), "{old:?} is not in the example");
        let findings = decode(kind, &yaml.replace(old, new)).map(|_| ()).expect_err(&expected);
        let text = findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n");
        assert!(text.contains(&expected), "{expected:?} is not in {text:?}");
    }
}
