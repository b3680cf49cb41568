//! What a route does to a head: rewrites, redirects, mutations, hashes.

mod common;

use common::{config, get, host, route};
use tulle_core::cookie::SetCookie;
use tulle_core::xxh64;
use tulle_policy::matcher::compile_unanchored;
use tulle_route::hashing::Hashed;
use tulle_route::rewrite::{self, Substitution, SubstitutionPiece};
use tulle_route::*;
use tulle_telemetry::TextFormat;

fn rewritten(matches: PathMatch, rewrite: PathRewrite, path: &str) -> String {
    let action = Forward { path_rewrite: Some(rewrite), ..Forward::to("c".into()) };
    let request = get("h", path).with("x-new", "/made");
    rewrite::path(&action, &route("r", RouteMatch::path(matches)), &request, &request).unwrap()
}

/// `/service/(name)/rest` → `/rest/instance/name`, the example of Envoy's documentation.
fn swap() -> RegexRewrite {
    RegexRewrite {
        pattern: compile_unanchored("^/service/([^/]+)(/.*)$").unwrap(),
        substitution: Substitution {
            pieces: Box::new([
                SubstitutionPiece::Capture(2),
                SubstitutionPiece::Literal("/instance/".into()),
                SubstitutionPiece::Capture(1),
            ]),
        },
    }
}

#[test]
fn paths_are_rewritten_and_keep_their_query() {
    let prefix = |text: &str| PathRewrite::Prefix(text.into());
    let format = |text: &str| PathRewrite::Format(TextFormat::parse(text).unwrap());
    let table = [
        (PathMatch::Prefix("/a".into()), prefix("/b"), "/a/x?q=/a", "/b/x?q=/a"),
        (PathMatch::Prefix("/a/".into()), prefix("/"), "/a/x", "/x"),
        (PathMatch::Prefix("/a/".into()), prefix(""), "/a/x", "/x"),
        (PathMatch::SeparatedPrefix("/a".into()), prefix("/b"), "/a?x", "/b?x"),
        (PathMatch::Exact("/a".into()), prefix("/b/c"), "/a?x", "/b/c?x"),
        (PathMatch::Prefix("/".into()), PathRewrite::Regex(swap()), "/service/foo/v1/api?q", "/v1/api/instance/foo?q"),
        (PathMatch::Prefix("/".into()), PathRewrite::Regex(swap()), "/other?q", "/other?q"),
        (PathMatch::Prefix("/".into()), format("%REQ(x-new)%/x"), "/other?q", "/made/x?q"),
    ];
    for (matches, rewrite, path, expected) in table {
        assert_eq!(rewritten(matches, rewrite, path), expected, "{path}");
    }
}

#[test]
fn authorities_come_from_text_header_or_path() {
    let authority = |host_rewrite| {
        let action = Forward { host_rewrite: Some(host_rewrite), ..Forward::to("c".into()) };
        let request = get("h", "/service/foo/x").with("x-host", "from.header");
        rewrite::authority(&action, &request, &request)
    };
    assert_eq!(authority(HostRewrite::Literal("new".into())).as_deref(), Some("new"));
    assert_eq!(authority(HostRewrite::Header("x-host".into())).as_deref(), Some("from.header"));
    assert_eq!(authority(HostRewrite::Header("absent".into())), None);
    assert_eq!(authority(HostRewrite::Auto), None);
    let format = |text: &str| HostRewrite::Format(TextFormat::parse(text).unwrap());
    assert_eq!(authority(format("new.%REQ(x-host)%")).as_deref(), Some("new.from.header"));
    assert_eq!(authority(format("%REQ(absent)%")), None);
    assert_eq!(authority(HostRewrite::PathRegex(swap())).as_deref(), Some("/x/instance/foo"));
}

fn redirect() -> Redirect {
    Redirect {
        https: false,
        scheme: None,
        host: None,
        port: None,
        path: RedirectPath::Keep,
        status: 301,
        strip_query: false,
    }
}

#[test]
fn locations_are_envoys() {
    let location = |redirect: Redirect, authority: &str| {
        let route = route("r", RouteMatch::path(PathMatch::Prefix("/a".into())));
        rewrite::redirect_location(&redirect, &route, &get(authority, "/a/b?q=1"))
    };
    let table = [
        (Redirect { https: true, ..redirect() }, "h:80", "https://h/a/b?q=1"),
        (Redirect { https: true, ..redirect() }, "h:8080", "https://h:8080/a/b?q=1"),
        (Redirect { port: Some(81), ..redirect() }, "[::1]:80", "http://[::1]:81/a/b?q=1"),
        (Redirect { host: Some("n".into()), strip_query: true, ..redirect() }, "h:80", "http://n/a/b"),
        (Redirect { path: RedirectPath::Replace("/n".into()), ..redirect() }, "h", "http://h/n?q=1"),
        (Redirect { path: RedirectPath::Replace("/n?x".into()), strip_query: true, ..redirect() }, "h", "http://h/n?x"),
        (Redirect { path: RedirectPath::Prefix("/z".into()), ..redirect() }, "h", "http://h/z/b?q=1"),
        (Redirect { scheme: Some("ftp".into()), ..redirect() }, "h:80", "ftp://h/a/b?q=1"),
    ];
    for (redirect, authority, expected) in table {
        assert_eq!(location(redirect.clone(), authority), expected, "{redirect:?}");
    }
}

fn add(name: &str, value: &str, action: AppendAction) -> HeaderValue {
    HeaderValue { name: name.into(), value: TextFormat::parse(value).unwrap(), action, keep_empty: false }
}

#[test]
fn mutations_remove_then_overwrite_then_add() {
    let mutations = HeaderMutations {
        request_add: Box::new([
            add("a", "1-%PROTOCOL%-%REQ(:path)%", AppendAction::AppendIfExistsOrAdd),
            add("b", "new", AppendAction::OverwriteIfExists),
            add("c", "new", AppendAction::OverwriteIfExists),
            add("d", "new", AppendAction::AddIfAbsent),
            add("e", "%REQ(absent)%", AppendAction::AppendIfExistsOrAdd),
            add("f", "over", AppendAction::OverwriteIfExistsOrAdd),
            add("f", "beside", AppendAction::AddIfAbsent),
        ]),
        request_remove: Box::new(["d".into()]),
        ..HeaderMutations::default()
    };
    let view = get("h", "/p").with("a", "0").with("b", "old").with("d", "old");
    let mut head = view.clone();
    mutations.request().apply(&view, &mut head, &mut Vec::new());
    let pairs: Vec<(&str, &str)> = head.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(pairs, [("a", "0"), ("b", "new"), ("f", "over"), ("a", "1-HTTP/1.1-/p"), ("d", "new"), ("f", "beside")]);
}

#[test]
fn a_header_value_cannot_be_split() {
    let view = get("h", "/").with("x", "a\r\nevil: 1\0");
    let mut out = Vec::new();
    TextFormat::parse("<%REQ(x)%>").unwrap().render_header(&view, &mut out);
    assert_eq!(out, b"<aevil: 1>");
}

#[test]
fn levels_apply_from_the_route_outwards_unless_turned_round() {
    let tag = |value: &str| HeaderMutations {
        request_add: Box::new([add("x", value, AppendAction::OverwriteIfExistsOrAdd)]),
        ..HeaderMutations::default()
    };
    let mut inner = route("r", RouteMatch::any());
    inner.mutations = tag("route");
    let mut outer = host("h", &["*"], vec![inner]);
    outer.mutations = tag("host");
    let mut config = config(vec![outer]);
    config.mutations = tag("config");
    let last = |config: &RouteConfig| {
        let view = get("h", "/");
        let mut head = view.clone();
        for level in select(config, &view, 0).unwrap().levels() {
            level.request().apply(&view, &mut head, &mut Vec::new());
        }
        head.headers[0].1.clone()
    };
    assert_eq!(last(&config), "config");
    config.most_specific_wins = true;
    assert_eq!(last(&config), "route");
}

#[test]
fn hashes_are_envoys() {
    let source = "10.0.0.1".parse().unwrap();
    let policy = |source, terminal| HashPolicy { source, terminal };
    let header = || HashSource::Header { name: "x".into(), rewrite: None };
    let cookie = || {
        let cookie =
            SetCookie { name: "c".into(), path: "".into(), ttl: std::time::Duration::ZERO, attributes: Box::default() };
        HashSource::Cookie { cookie, when_missing: WhenMissing::Generated }
    };
    let made = std::cell::Cell::new(0);
    let hash = |policies: Vec<HashPolicy>, request: &common::Request| {
        let action = Forward { hash: policies.into(), ..Forward::to("c".into()) };
        hash_of(&action.hash, &Hashed { request, source: Some(source) }, &mut |cookie| {
            made.set(made.get() + 1);
            Some(format!("made for {}", cookie.name))
        })
    };
    let request = get("h", "/?a=v").with("x", "foo").with("cookie", "b=1; c=\"bar\"");
    assert_eq!(hash(vec![policy(header(), false)], &request), Some(xxh64(b"foo", 0)));
    assert_eq!(hash(vec![policy(cookie(), false)], &request), Some(xxh64(b"bar", 0)));
    assert_eq!(hash(vec![policy(HashSource::SourceIp, false)], &request), Some(xxh64(b"10.0.0.1", 0)));
    assert_eq!(hash(vec![policy(HashSource::QueryParameter("a".into()), false)], &request), Some(xxh64(b"v", 0)));
    let both = Some(xxh64(b"foo", 0).rotate_left(1) ^ xxh64(b"bar", 0));
    assert_eq!(hash(vec![policy(header(), false), policy(cookie(), false)], &request), both);
    let first = hash(vec![policy(header(), true), policy(cookie(), false)], &request);
    assert_eq!(first, Some(xxh64(b"foo", 0)));
    assert_eq!(hash(vec![policy(header(), true)], &get("h", "/")), None);
    assert_eq!(made.get(), 0);
    let new = Some(xxh64(b"made for c", 0));
    assert_eq!(hash(vec![policy(cookie(), true), policy(header(), false)], &get("h", "/").with("x", "foo")), new);
    assert_eq!(hash(vec![policy(cookie(), false)], &get("h", "/").with("cookie", "c=")), new);
    assert_eq!(made.get(), 2);
    let rewrite = RegexRewrite {
        pattern: compile_unanchored("f(o+)").unwrap(),
        substitution: Substitution { pieces: Box::new([SubstitutionPiece::Capture(1)]) },
    };
    let rewritten = || HashSource::Header { name: "x".into(), rewrite: Some(rewrite.clone()) };
    assert_eq!(hash(vec![policy(rewritten(), false)], &request), Some(xxh64(b"oo", 0)));
}
