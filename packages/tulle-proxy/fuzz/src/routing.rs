//! Paths, authorities and route tables: one form, one meaning, and nothing that breaks a line or leads elsewhere.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use tulle_core::address::split_authority;
use tulle_http::RequestHead;
use tulle_http::h1::Limits;
use tulle_http::h1::parse::{self, HeadScan};
use tulle_policy::template::PathTemplate;
use tulle_policy::timeout::parse_grpc_timeout;
use tulle_route::canonical::{self, Canonical, EscapedSlashes, PathHandling};
use tulle_route::hashing::Hashed;
use tulle_route::{RouteAction, RouteConfig, hash_of, rewrite, select};
use tulle_xds::decode::{self, Kind, Resource};
use tulle_xds::json::{Messages, pack};

use crate::telemetry::Hostile;

fn handling(bits: u8) -> PathHandling {
    let escaped_slashes = match bits >> 2 & 3 {
        0 => EscapedSlashes::KeepUnchanged,
        1 => EscapedSlashes::Reject,
        2 => EscapedSlashes::UnescapeAndRedirect,
        _ => EscapedSlashes::UnescapeAndForward,
    };
    PathHandling { normalize: bits & 1 != 0, merge_slashes: bits & 2 != 0, escaped_slashes }
}

fn parts(full: &[u8]) -> (&[u8], &[u8]) {
    full.split_at(full.iter().position(|byte| *byte == b'?').unwrap_or(full.len()))
}

/// The first byte says how paths are handled.
pub fn path(data: &[u8]) {
    let Some((bits, full)) = data.split_first() else { return };
    if !parse::path_allowed(full) {
        return;
    }
    let handling = handling(*bits);
    let made = match canonical::path(handling, full) {
        Canonical::Same => full.to_vec(),
        Canonical::Changed(made) => made,
        Canonical::Elsewhere(made) => {
            let (first, second) = (made.first(), made.get(1));
            assert!(first == Some(&b'/') && !matches!(second, Some(b'/' | b'\\')), "leads to another host");
            made
        }
        Canonical::Refused => return,
    };
    assert!(parse::path_allowed(&made), "{}", made.escape_ascii());
    assert_eq!(canonical::path(handling, &made), Canonical::Same, "{}", made.escape_ascii());
    let (path, query) = parts(&made);
    assert_eq!(query, parts(full).1);
    if handling.normalize {
        assert!(!path.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")));
        assert!(!path.contains(&b'\\'));
        let encoded = |text: &[u8]| path.windows(3).any(|window| window.eq_ignore_ascii_case(text));
        assert!(!encoded(b"%2e") && !encoded(b"%41"), "{}", path.escape_ascii());
    }
    if handling.merge_slashes {
        assert!(!path.windows(2).any(|window| window == b"//"));
    }
}

pub fn authority(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (host, port) = split_authority(text);
    match port {
        Some(port) => assert_eq!(format!("{host}:{port}"), text),
        None => assert_eq!(host, text),
    }
    if !parse::authority_allowed(data) {
        return;
    }
    let table = table();
    for ignore_port in [false, true] {
        let found = table.index.find(text, ignore_port);
        assert_eq!(found, table.index.find(&text.to_ascii_uppercase(), ignore_port), "case matters");
    }
    let number = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_some_and(number) && !host.contains(':') {
        assert_eq!(table.index.find(text, true), table.index.find(host, true), "the port matters");
    }
}

/// A table with a matcher, a rewrite and a hash of every kind.
const TABLE: &str = r#"
name: all
virtual_hosts:
- {name: exact, domains: [a.example, "a.example:8080"], routes: [{match: {path: /x}, redirect: {host_redirect: b.example, path_redirect: /y}}]}
- {name: suffix, domains: ["*.a.example", "*-b.example"], routes: [{match: {prefix: /p}, redirect: {prefix_rewrite: /q, https_redirect: true}}, {match: {prefix: /}, redirect: {strip_query: true}}]}
- {name: prefix, domains: ["a.*"], routes: [{match: {path_separated_prefix: /p}, route: {cluster: c, prefix_rewrite: /, host_rewrite_header: x-host}}]}
- name: rest
  domains: ["*"]
  routes:
  - {match: {safe_regex: {regex: "/r/([^/]+)/(.*)"}}, redirect: {regex_rewrite: {pattern: {regex: "/r/([^/]+)/(.*)"}, substitution: "/\\2/\\1"}}}
  - match:
      prefix: /
      headers: [{name: x-a, string_match: {contains: b, ignore_case: true}}, {name: x-n, range_match: {start: "1", end: "9"}, invert_match: true}]
      query_parameters: [{name: q, string_match: {suffix: z}}]
    route: {cluster_header: x-cluster, regex_rewrite: {pattern: {regex: "^/(.)"}, substitution: "/\\1\\1"}}
  - match: {prefix: /}
    route:
      cluster: c
      prefix_rewrite: /new
      hash_policy:
      - {header: {header_name: x-user}}
      - {cookie: {name: s, ttl: 60s, path: /}}
      - {query_parameter: {name: q}}
      - {connection_properties: {source_ip: true}}
"#;

fn table() -> &'static RouteConfig {
    static MADE: OnceLock<std::sync::Arc<RouteConfig>> = OnceLock::new();
    MADE.get_or_init(|| {
        let message = Messages::load().parse::<RouteConfiguration>(TABLE).expect("the table is well-formed");
        match decode::resource(Kind::Route, &pack(&message)) {
            Ok((Resource::Route(made), _)) => made,
            other => panic!("the table is not taken: {other:?}"),
        }
    })
}

fn breaks_no_line(text: &str) {
    assert!(!text.bytes().any(|byte| byte < 0x20 || byte == 0x7f), "{text:?}");
}

/// A request over HTTP/1.1, routed.
pub fn route(data: &[u8]) {
    let limits = Limits::default();
    let Ok(Some(end)) = HeadScan::default().advance(data, &limits) else { return };
    let mut request = RequestHead::default();
    if parse::request(&data[..end], &limits, &mut request).is_err() {
        return;
    }
    let random = tulle_core::xxh64(data, 0);
    let Some(selected) = select(table(), &request, random) else { return };
    let again = select(table(), &request, random).map(|again| std::ptr::from_ref(again.route));
    assert_eq!(again, Some(std::ptr::from_ref(selected.route)));
    match selected.action() {
        RouteAction::Forward(action) => {
            let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let hashed = Hashed { request: &request, source: Some(source) };
            let hash = || hash_of(&action.hash, &hashed, &mut |cookie| Some(cookie.name.to_string()));
            assert_eq!(hash(), hash());
            if let Some(path) = rewrite::path(action, selected.route, &request, &Hostile) {
                breaks_no_line(&path);
                assert!(path.starts_with('/'), "{path:?}");
            }
            if let Some(host) = rewrite::authority(action, &request, &Hostile) {
                breaks_no_line(&host);
            }
        }
        RouteAction::Redirect(redirect) => {
            let location = rewrite::redirect_location(redirect, selected.route, &request);
            breaks_no_line(&location);
            assert!(location.starts_with("http://") || location.starts_with("https://"), "{location:?}");
        }
        RouteAction::Direct(_) | RouteAction::NonForwarding => {}
    }
}

/// A template, a line end, and a path.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (template, path) = text.split_once('\n').unwrap_or((text, "/"));
    let Ok(template) = PathTemplate::parse(template) else { return };
    assert_eq!(template.matches(path), template.matches(path));
}

pub fn grpc_timeout(data: &[u8]) {
    let Some(found) = parse_grpc_timeout(data) else { return };
    let (unit, digits) = data.split_last().expect("an empty value is none");
    let count: u128 = std::str::from_utf8(digits).expect("digits").parse().expect("at most eight digits");
    let nanos = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        other => panic!("{other} is no unit"),
    };
    assert!(digits.len() <= 8);
    assert_eq!(found.as_nanos(), count * nanos);
}
