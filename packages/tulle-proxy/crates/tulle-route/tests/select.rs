//! Selection of virtual hosts, routes and weighted clusters, against tables and a naive evaluator.

mod common;

use common::{Request, config, get, host, route};
use proptest::prelude::*;
use tulle_core::{FractionalPercent, Rng};
use tulle_policy::{HeaderMatcher, HeaderTest, Regex, StringMatcher, StringTest};
use tulle_route::config::RouteConfigError;
use tulle_route::*;

fn chosen(config: &RouteConfig, request: &Request) -> Option<String> {
    select(config, request, 0).map(|selected| selected.host.name.to_string())
}

#[test]
fn hosts_go_exact_then_suffix_then_prefix_then_any() {
    let any = |name: &str, domains: &[&str]| host(name, domains, vec![route("r", RouteMatch::any())]);
    let config = config(vec![
        any("any", &["*"]),
        any("suffix", &["*.foo.com"]),
        any("longer-suffix", &["*-bar.foo.com"]),
        any("prefix", &["www.*"]),
        any("exact", &["www.foo.com", "With.Case", "p.com:8080", "[::1]:80"]),
    ]);
    let table = [
        ("www.foo.com", "exact"),
        ("WWW.FOO.COM", "exact"),
        ("with.case", "exact"),
        ("p.com:8080", "exact"),
        ("p.com", "any"),
        ("[::1]:80", "exact"),
        ("a.foo.com", "suffix"),
        ("a-bar.foo.com", "longer-suffix"),
        ("www.bar.foo.com", "suffix"),
        (".foo.com", "any"),
        ("www.org", "prefix"),
        ("www.", "any"),
        ("", "any"),
    ];
    for (authority, expected) in table {
        assert_eq!(chosen(&config, &get(authority, "/")).as_deref(), Some(expected), "{authority}");
    }
    let long = format!("{}.foo.com", "a".repeat(300));
    assert_eq!(chosen(&config, &get(&long, "/")).as_deref(), Some("suffix"));
}

#[test]
fn ports_are_ignored_only_when_asked() {
    let mut config = config(vec![host("exact", &["foo.com", "[::1]"], vec![route("r", RouteMatch::any())])]);
    assert_eq!(chosen(&config, &get("foo.com:80", "/")), None);
    config.ignore_port = true;
    assert_eq!(chosen(&config, &get("foo.com:80", "/")).as_deref(), Some("exact"));
    assert_eq!(chosen(&config, &get("[::1]:80", "/")).as_deref(), Some("exact"));
}

#[test]
fn ambiguous_tables_are_refused() {
    let build = |hosts| RouteConfig::new("t".into(), hosts).unwrap_err();
    let twice = build(vec![host("a", &["x.com"], vec![]), host("b", &["X.com"], vec![])]);
    assert!(matches!(twice, RouteConfigError::DuplicateDomain { first, .. } if first == "a"));
    assert!(matches!(build(vec![host("a", &["a.*.b"], vec![])]), RouteConfigError::Wildcard(_)));
    let names = build(vec![host("a", &["x"], vec![]), host("a", &["y"], vec![])]);
    assert!(matches!(names, RouteConfigError::DuplicateHost(_)));
}

#[test]
fn paths_match_without_query() {
    let matched = |path: PathMatch, case_sensitive, request: &str| {
        let matches = RouteMatch { case_sensitive, ..RouteMatch::path(path) };
        matches.matches(&get("h", request), 0)
    };
    let table = [
        (PathMatch::Exact("/a".into()), true, "/a?x=1", true),
        (PathMatch::Exact("/a".into()), true, "/a/", false),
        (PathMatch::Exact("/a".into()), true, "/A", false),
        (PathMatch::Exact("/a".into()), false, "/A", true),
        (PathMatch::Prefix("/a".into()), true, "/ab", true),
        (PathMatch::Prefix("/a".into()), false, "/Ab", true),
        (PathMatch::SeparatedPrefix("/a".into()), true, "/ab", false),
        (PathMatch::SeparatedPrefix("/a".into()), true, "/a/b", true),
        (PathMatch::SeparatedPrefix("/a".into()), true, "/a?b", true),
        (PathMatch::Regex(Regex::new("/[a-z]+").unwrap()), true, "/abc?D", true),
        (PathMatch::Regex(Regex::new("/[a-z]+").unwrap()), true, "/abc/d", false),
        (PathMatch::Connect, true, "/a", false),
        (PathMatch::Prefix("/".into()), true, "", false),
    ];
    for (path, case_sensitive, request, expected) in table {
        assert_eq!(matched(path.clone(), case_sensitive, request), expected, "{path:?} on {request}");
    }
}

#[test]
fn headers_queries_and_grpc_narrow_a_route() {
    let internal = HeaderMatcher {
        name: "user-type".into(),
        test: HeaderTest::String(StringMatcher::exact("internal")),
        invert: false,
        treat_missing_as_empty: false,
    };
    let by_header = RouteMatch { headers: Box::new([internal.clone()]), ..RouteMatch::any() };
    assert!(by_header.matches(&get("h", "/").with("user-type", "internal"), 0));
    assert!(!by_header.matches(&get("h", "/"), 0));
    // Each value is asked by itself, as Envoy does: any may match, and of an inverted matcher none may.
    let repeated = get("h", "/").with("user-type", "x").with("user-type", "internal");
    assert!(by_header.matches(&repeated, 0));
    assert!(!HeaderMatcher { invert: true, ..internal.clone() }.matches(&repeated));
    let joined = HeaderMatcher { test: HeaderTest::String(StringMatcher::exact("x,internal")), ..internal.clone() };
    assert!(!joined.matches(&repeated));
    let method =
        HeaderMatcher { name: ":method".into(), test: HeaderTest::String(StringMatcher::exact("GET")), ..internal };
    assert!(method.matches(&get("h", "/")));

    let query = |test| QueryMatcher { name: "a".into(), test };
    assert!(query(QueryTest::String(StringMatcher::exact("1"))).matches("b=2&a=1&a=2"));
    assert!(query(QueryTest::Present(true)).matches("a"));
    assert!(query(QueryTest::Present(false)).matches("b=a"));
    assert!(!query(QueryTest::String(StringMatcher::exact(""))).matches(""));

    let grpc = RouteMatch { grpc: true, ..RouteMatch::any() };
    assert!(grpc.matches(&get("h", "/").with("content-type", "application/grpc+proto"), 0));
    assert!(!grpc.matches(&get("h", "/").with("content-type", "application/grpc-web"), 0));
}

fn weighted(weights: &[u32]) -> Forward {
    let arm = |(position, weight): (usize, &u32)| WeightedCluster {
        name: ClusterName::Is(format!("c{position}").into()),
        weight: *weight,
        mutations: HeaderMutations::default(),
        host_rewrite: None,
        subset: Box::default(),
        filters: tulle_policy::FilterOverrides::default(),
    };
    let arms = weights.iter().enumerate().map(arm).collect();
    Forward { target: ClusterTarget::Weighted(arms), ..Forward::to("unused".into()) }
}

#[test]
fn a_runtime_fraction_does_not_skew_the_weights() {
    let fraction = Some(FractionalPercent::new(50, 100));
    let matches = RouteMatch { runtime_fraction: fraction, ..RouteMatch::any() };
    let split = Route::new("split".into(), matches, RouteAction::Forward(Box::new(weighted(&[90, 10]))));
    let config = config(vec![host("h", &["*"], vec![split, route("rest", RouteMatch::any())])]);
    let (mut rng, request) = (Rng::seeded(5), get("h", "/"));
    let mut counts = [0u32; 3];
    for _ in 0..100_000 {
        let selected = select(&config, &request, rng.next_u64()).unwrap();
        match selected.cluster(&request) {
            Some("c0") => counts[0] += 1,
            Some("c1") => counts[1] += 1,
            _ => counts[2] += 1,
        }
    }
    // Five standard deviations.
    assert!(counts[2].abs_diff(50_000) < 800 && counts[1].abs_diff(5_000) < 350, "{counts:?}");
}

#[test]
fn a_cluster_can_be_named_by_a_header() {
    let forward = Forward { target: ClusterTarget::Header("x-cluster".into()), ..Forward::to("unused".into()) };
    let by_header = Route::new("r".into(), RouteMatch::any(), RouteAction::Forward(Box::new(forward)));
    let config = config(vec![host("h", &["*"], vec![by_header])]);
    let request = get("h", "/").with("x-cluster", "blue");
    assert_eq!(select(&config, &request, 0).unwrap().cluster(&request), Some("blue"));
    let without = get("h", "/");
    assert_eq!(select(&config, &without, 0).unwrap().cluster(&without), None);
}

#[test]
fn weighted_clusters_are_drawn_and_named_by_headers() {
    let mut forward = weighted(&[90, 10]);
    forward.draw_by = Some(DrawBy::Header("x-draw".into()));
    let ClusterTarget::Weighted(arms) = &mut forward.target else { panic!("not weighted") };
    arms[1].name = ClusterName::Header("x-cluster".into());
    let split = Route::new("split".into(), RouteMatch::any(), RouteAction::Forward(Box::new(forward)));
    let config = config(vec![host("h", &["*"], vec![split])]);
    // By chance (0, shifted) it is the first; so it is with a number that is none, or twice there.
    let table = [
        (vec![], "c0"),
        (vec!["89"], "c0"),
        (vec!["90"], "blue"),
        (vec!["190"], "blue"),
        (vec!["95", "95"], "c0"),
        (vec!["x"], "c0"),
    ];
    for (draws, expected) in table {
        let named = get("h", "/").with("x-cluster", "blue");
        let request = draws.iter().fold(named, |request, draw| request.with("x-draw", draw));
        assert_eq!(select(&config, &request, 0).unwrap().cluster(&request), Some(expected), "{draws:?}");
    }
    let unnamed = get("h", "/").with("x-draw", "90");
    assert_eq!(select(&config, &unnamed, 0).unwrap().cluster(&unnamed), None);
}

#[test]
fn cookies_narrow_a_route() {
    let matcher = |test: &str, invert| CookieMatcher { name: "user".into(), test: StringMatcher::exact(test), invert };
    let matches = |matcher: CookieMatcher, cookies: &[&str]| {
        let matches = RouteMatch { cookies: Box::new([matcher]), ..RouteMatch::any() };
        let request = cookies.iter().fold(get("h", "/"), |request, cookie| request.with("cookie", cookie));
        matches.matches(&request, 0)
    };
    for (test, invert, cookies, expected) in [
        ("ann", false, &["a=b; user=ann"][..], true),
        ("ann", false, &["a=b", "user=\"ann\""], true),
        ("ann", false, &["user=bob; user=ann"], false),
        ("ann", false, &["xuser=ann"], false),
        ("", false, &[], false),
        ("ann", true, &[], true),
        ("ann", true, &["user=ann"], false),
    ] {
        assert_eq!(matches(matcher(test, invert), cookies), expected, "{test} {invert} on {cookies:?}");
    }
}

/// What `HostIndex::find` should say, by trying every domain.
fn naive_host<'d>(domains: &'d [String], authority: &str) -> Option<&'d String> {
    let authority = authority.to_ascii_lowercase();
    let rank = |domain: &String| -> Option<(u8, usize)> {
        let lower = domain.to_ascii_lowercase();
        if lower == "*" {
            Some((0, 0))
        } else if let Some(suffix) = lower.strip_prefix('*') {
            (authority.len() > suffix.len() && authority.ends_with(suffix)).then_some((2, suffix.len()))
        } else if let Some(prefix) = lower.strip_suffix('*') {
            (authority.len() > prefix.len() && authority.starts_with(prefix)).then_some((1, prefix.len()))
        } else {
            (lower == authority).then_some((3, 0))
        }
    };
    domains.iter().filter(|domain| rank(domain).is_some()).max_by_key(|domain| rank(domain))
}

/// Domains from a small alphabet, so that they collide often.
fn domain() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        "[abA.]{1,4}",
        "[ab.]{1,3}".prop_map(|text| format!("*{text}")),
        "[ab.]{1,3}".prop_map(|text| format!("{text}*")),
    ]
}

proptest! {
    #[test]
    fn hosts_agree_with_trying_all(
        mut domains in prop::collection::vec(domain(), 1..12),
        authorities in prop::collection::vec("[abAB.]{0,6}", 1..20),
    ) {
        domains.sort_by_key(|domain| domain.to_ascii_lowercase());
        domains.dedup_by_key(|domain| domain.to_ascii_lowercase());
        let hosts = domains.iter().map(|domain| host(domain, &[domain], vec![route("r", RouteMatch::any())]));
        let config = config(hosts.collect());
        for authority in authorities {
            let expected = naive_host(&domains, &authority).cloned();
            prop_assert_eq!(chosen(&config, &get(&authority, "/")), expected, "{}", authority);
        }
    }

    #[test]
    fn weights_are_kept(weights in prop::collection::vec(0u32..100, 1..6), seed: u64) {
        let forward = weighted(&weights);
        let total: u32 = weights.iter().sum();
        let mut rng = Rng::seeded(seed);
        let mut counts = vec![0f64; weights.len()];
        for _ in 0..20_000 {
            match forward.target.draw(rng.next_u64()) {
                Some(WeightedCluster { name: ClusterName::Is(name), .. }) => {
                    counts[name[1..].parse::<usize>().unwrap()] += 1.0;
                }
                Some(other) => panic!("{other:?} was not configured"),
                None => prop_assert_eq!(total, 0),
            }
        }
        for (count, weight) in counts.iter().zip(&weights) {
            let expected = f64::from(*weight) / f64::from(total.max(1));
            prop_assert!((count / 20_000.0 - expected).abs() < 0.025, "{:?} for {:?}", counts, weights);
            prop_assert!(*weight > 0 || *count == 0.0);
        }
    }

    #[test]
    fn any_request_is_matched_without_panic(path in "\\PC{0,20}", authority in "\\PC{0,20}", value in "\\PC{0,20}") {
        let matcher = HeaderMatcher {
            name: "x".into(),
            test: HeaderTest::String(StringMatcher { test: StringTest::Contains("é".into()), ignore_case: true }),
            invert: false,
            treat_missing_as_empty: false,
        };
        let matches = RouteMatch { headers: Box::new([matcher]), ..RouteMatch::any() };
        let config = config(vec![host("h", &["*.é", "*"], vec![route("r", matches)])]);
        let request = get(&authority, &path).with("x", &value);
        let expected = path.split(['?', '#']).next().unwrap().starts_with('/') && value.contains('é');
        prop_assert_eq!(select(&config, &request, 7).is_some(), expected);
    }

    /// Path matchers against their definitions, on paths that are nearly alike.
    #[test]
    fn paths_match_as_they_are_defined(text in "(/[abA]{0,2}){1,3}", path in "(/[abA]{0,2}){0,4}", query in "([?#][ab/]{0,3})?", fold: bool) {
        let request = get("h", &format!("{path}{query}"));
        let matches = |by: PathMatch| RouteMatch { case_sensitive: !fold, ..RouteMatch::path(by) }.matches(&request, 0);
        let case = |text: &str| if fold { text.to_ascii_lowercase() } else { text.to_owned() };
        let (wanted, found) = (case(&text), case(&path));
        let there = !path.is_empty();
        prop_assert_eq!(matches(PathMatch::Exact((&*text).into())), there && found == wanted);
        prop_assert_eq!(matches(PathMatch::Prefix((&*text).into())), there && found.starts_with(&wanted));
        let below = found == wanted || found.starts_with(&format!("{wanted}/"));
        prop_assert_eq!(matches(PathMatch::SeparatedPrefix((&*text).into())), there && below);
    }

    /// Templates against a matcher that goes segment by segment.
    #[test]
    fn templates_match_segment_by_segment(template in "(/(a|b|\\*|\\{x\\})){1,3}(/\\*\\*)?", path in "(/[ab]{0,2}){1,5}") {
        let Ok(made) = PathTemplate::parse(&template) else { return Ok(()) };
        let wanted: Vec<&str> = template[1..].split('/').collect();
        let found: Vec<&str> = path[1..].split('/').collect();
        let open = wanted.last() == Some(&"**");
        let fixed = wanted.len() - usize::from(open);
        let lengths = if open { found.len() > fixed } else { found.len() == fixed };
        let each = wanted.iter().zip(&found).take(fixed).all(|(wanted, found)| match *wanted {
            "*" | "{x}" => !found.is_empty(),
            literal => literal == *found,
        });
        prop_assert_eq!(made.matches(&path), lengths && each, "{} {}", template, path);
    }

    /// The first route that matches is taken, wherever it stands.
    #[test]
    fn the_first_route_that_matches_is_taken(prefixes in prop::collection::vec("/[ab]{0,2}", 1..8), path in "/[ab]{0,3}") {
        let routes = prefixes.iter().enumerate().map(|(at, prefix)| {
            route(&at.to_string(), RouteMatch::path(PathMatch::Prefix((&**prefix).into())))
        });
        let config = config(vec![host("h", &["*"], routes.collect())]);
        let expected = prefixes.iter().position(|prefix| path.starts_with(prefix.as_str())).map(|at| at.to_string());
        let found = select(&config, &get("h", &path), 0).map(|selected| selected.route.name.to_string());
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn scopes_are_chosen_by_parts_of_headers() {
    use scopes::{Fragment, Pick, Scope, ScopeKey, ScopeKeyBuilder, ScopeRoutes, Scopes};
    let fragment =
        |header: &str, separator: &str, pick| Fragment { header: header.into(), separator: separator.into(), pick };
    let value = |key: &str, separator: &str| Pick::Value { key: key.into(), separator: separator.into() };
    let builder = ScopeKeyBuilder {
        fragments: Box::new([
            fragment("x-scope", ";", value("user", "=")),
            fragment(":authority", ".", Pick::Index(1)),
            fragment("x-whole", "", Pick::Index(0)),
        ]),
    };
    let key = |scope: &str, authority: &str| {
        let request = get(authority, "/").with("x-scope", scope).with("x-whole", "a;b");
        builder.key(&request).map(|key| key.join("|"))
    };
    assert_eq!(key("a=b;user=ann=x;user=bob", "h.test").as_deref(), Some("ann=x|test|a;b"));
    assert_eq!(key("username=ann;user", "h.test"), None);
    assert_eq!(key("user=", "h.test.x").as_deref(), Some("|test|a;b"));
    assert_eq!(key("user=ann", "h"), None);
    assert_eq!(builder.key(&get("h.test", "/").with("x-scope", "user=ann")), None);

    let scope = |name: &str, key: &str| {
        std::sync::Arc::new(Scope {
            name: name.into(),
            key: Box::new([key.into()]),
            routes: ScopeRoutes::Named(name.into()),
        })
    };
    let scopes = Scopes::new([scope("a", "1"), scope("b", "2")]).unwrap();
    let found = |key: &str| scopes.get(&ScopeKey::from([key.into()])).map(|scope| scope.name.to_string());
    assert_eq!((found("2").as_deref(), found("3")), (Some("b"), None));
    assert_eq!(Scopes::new([scope("a", "1"), scope("b", "1")]).unwrap_err(), ("a".into(), "b".into()));
}
