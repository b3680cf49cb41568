//! Access rules: tables of what each condition means, and properties against an evaluator that just follows the words.

use std::net::IpAddr;

use proptest::prelude::*;
use tulle_core::{Cidr, Headers, RequestView};
use tulle_policy::rbac::{Action, Doubt, Facts, NoRequest, Peer, Policy, Rule, Rules, Verdict};
use tulle_policy::template::PathTemplate;
use tulle_policy::{HeaderMatcher, HeaderTest, StringMatcher, StringTest};

#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
}

impl Headers for Request {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_bytes())
    }

    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(key, _)| key == name).for_each(|(_, value)| visit(value.as_bytes()));
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.headers.iter().for_each(|(key, value)| visit(key.as_bytes(), value.as_bytes()));
    }
}

impl RequestView for Request {
    fn method(&self) -> &str {
        &self.method
    }

    fn authority(&self) -> &str {
        "backend"
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn scheme(&self) -> &str {
        "http"
    }
}

fn get(path: &str, headers: &[(&str, &str)]) -> Request {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Request { method: "GET".into(), path: path.into(), headers }
}

fn facts(peer: Peer<'_>) -> Facts<'_> {
    Facts {
        destination: "10.0.0.1:8080".parse().unwrap(),
        direct: "10.0.0.2".parse().unwrap(),
        remote: "192.0.2.7".parse().unwrap(),
        server_name: Some("outbound_.80_._.backend"),
        peer,
        metadata: None,
    }
}

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

fn header(name: &str, test: StringTest, invert: bool) -> Rule {
    let test = HeaderTest::String(StringMatcher { test, ignore_case: false });
    Rule::Header(HeaderMatcher { name: name.into(), test, invert, treat_missing_as_empty: false })
}

fn cidr(text: &str, length: u8) -> Cidr {
    Cidr::new(text.parse().unwrap(), length).unwrap()
}

fn rules(action: Action, permission: Rule, principal: Rule) -> Rules {
    Rules::new(action, vec![Policy::new("only".into(), vec![permission], vec![principal])])
}

#[test]
fn each_condition_means_what_envoy_means() {
    let path = |text: &str| Rule::Path(StringMatcher::exact(text));
    let table = [
        (path("/a"), true),
        (path("/a?x=1"), false),
        (Rule::Path(StringMatcher { test: StringTest::Prefix("/A".into()), ignore_case: true }), true),
        (Rule::Template(PathTemplate::parse("/{any}").unwrap()), true),
        (Rule::Template(PathTemplate::parse("/{any}/b").unwrap()), false),
        (header(":method", StringTest::Exact("GET".into()), false), true),
        (header("x-role", StringTest::Exact("user".into()), false), true),
        (header("x-none", StringTest::Exact("user".into()), false), false),
        (header("x-none", StringTest::Exact("user".into()), true), false),
        (Rule::DestinationIp(cidr("10.0.0.0", 24)), true),
        (Rule::DestinationPort { start: 8080, end: 8081 }, true),
        (Rule::DestinationPort { start: 8000, end: 8080 }, false),
        (Rule::ServerName(StringMatcher { test: StringTest::Suffix("backend".into()), ignore_case: false }), true),
        (Rule::Authenticated, true),
        (Rule::Principal(StringMatcher::exact(CLIENT)), true),
        (Rule::Principal(StringMatcher::exact("spiffe://cluster.local/ns/default/sa/other")), false),
        (Rule::DirectIp(cidr("10.0.0.2", 32)), true),
        (Rule::RemoteIp(cidr("10.0.0.2", 32)), false),
        (Rule::RemoteIp(cidr("192.0.2.0", 24)), true),
    ];
    let request = get("/a?x=1", &[("x-role", "user")]);
    let facts = facts(Peer::Named(CLIENT));
    for (rule, expected) in table {
        assert_eq!(rule.holds(&facts, &request, Doubt::Fails), expected, "{rule:?}");
        assert_eq!(Rule::negated(rule.clone()).holds(&facts, &request, Doubt::Fails), !expected, "not {rule:?}");
    }
}

#[test]
fn peers_without_an_identity_have_no_name() {
    let named = Rule::Principal(StringMatcher { test: StringTest::Prefix("s".into()), ignore_case: false });
    for (peer, authenticated) in [(Peer::Anonymous, false), (Peer::Unnamed, true)] {
        assert!(!named.holds(&facts(peer), &NoRequest, Doubt::Matches));
        assert_eq!(Rule::Authenticated.holds(&facts(peer), &NoRequest, Doubt::Fails), authenticated);
    }
}

#[test]
fn verdicts_name_the_first_policy_by_name() {
    let policy = |name: &str, rule| Policy::new(name.into(), vec![rule], vec![Rule::Always]);
    let list = vec![policy("b all", Rule::Always), policy("a", Rule::Never), policy("a b", Rule::Always)];
    let facts = facts(Peer::Anonymous);
    let denied = Rules::new(Action::Deny, list.clone());
    let verdict = denied.decide(&facts, &NoRequest);
    assert!(verdict.is_denied());
    assert_eq!(verdict.details(), "rbac_access_denied_matched_policy[a_b]");
    assert_eq!(Rules::new(Action::Allow, vec![]).decide(&facts, &NoRequest), Verdict::Denied(None));
    assert_eq!(Verdict::Denied(None).details(), "rbac_access_denied_matched_policy[none]");
    assert_eq!(Rules::new(Action::Deny, vec![]).decide(&facts, &NoRequest), Verdict::Allowed(None));
    assert!(!Rules::new(Action::Log, list).decide(&facts, &NoRequest).is_denied());
}

#[test]
fn a_repeated_field_never_helps_the_caller() {
    let admin = || header("x-role", StringTest::Exact("admin".into()), false);
    let good = || header("x-role", StringTest::Prefix("good".into()), false);
    let facts = facts(Peer::Anonymous);
    let decide = |action, rule, values: &[&str]| {
        let headers: Vec<_> = values.iter().map(|value| ("x-role", *value)).collect();
        rules(action, rule, Rule::Always).decide(&facts, &get("/", &headers)).is_denied()
    };
    for values in [["admin", "user"], ["user", "admin"]] {
        assert!(decide(Action::Deny, admin(), &values), "{values:?}");
        assert!(decide(Action::Allow, admin(), &values), "{values:?}");
        // "Deny unless admin" and "allow unless admin" are negations.
        assert!(decide(Action::Deny, Rule::negated(admin()), &values), "{values:?}");
        assert!(decide(Action::Allow, Rule::negated(admin()), &values), "{values:?}");
    }
    assert!(decide(Action::Allow, good(), &["good", "evil"]));
    assert!(!decide(Action::Allow, good(), &["good", "good too"]));
}

#[test]
fn connections_have_no_path_and_no_fields() {
    let facts = facts(Peer::Anonymous);
    let path = Rule::Path(StringMatcher { test: StringTest::Prefix("/".into()), ignore_case: false });
    assert!(rules(Action::Allow, path.clone(), Rule::Always).decide(&facts, &NoRequest).is_denied());
    assert!(!rules(Action::Deny, path, Rule::Always).decide(&facts, &NoRequest).is_denied());
    let absent = Rule::Header(HeaderMatcher {
        name: "x".into(),
        test: HeaderTest::Present(false),
        invert: false,
        treat_missing_as_empty: false,
    });
    assert!(!rules(Action::Allow, absent, Rule::Always).decide(&facts, &NoRequest).is_denied());
}

/// A condition as configuration words it, before anything is simplified or put in another order.
#[derive(Clone, Debug)]
enum Words {
    Leaf(Rule),
    And(Vec<Words>),
    Or(Vec<Words>),
    Not(Box<Words>),
}

impl Words {
    fn compile(&self) -> Rule {
        match self {
            Words::Leaf(rule) => rule.clone(),
            Words::And(words) => Rule::all(words.iter().map(Words::compile).collect()),
            Words::Or(words) => Rule::any(words.iter().map(Words::compile).collect()),
            Words::Not(words) => Rule::negated(words.compile()),
        }
    }

    /// The naive evaluator, for requests without repeated fields: no doubt, no shortcut, no compiled rule above leaves.
    fn holds(&self, facts: &Facts<'_>, request: &Request) -> bool {
        match self {
            Words::Leaf(rule) => leaf(rule, facts, request),
            Words::And(words) => words.iter().fold(true, |all, words| all & words.holds(facts, request)),
            Words::Or(words) => words.iter().fold(false, |any, words| any | words.holds(facts, request)),
            Words::Not(words) => !words.holds(facts, request),
        }
    }
}

fn leaf(rule: &Rule, facts: &Facts<'_>, request: &Request) -> bool {
    let starts = |matcher: &StringMatcher, text: &str| match &matcher.test {
        StringTest::Exact(wanted) => text == &**wanted,
        StringTest::Prefix(wanted) => text.starts_with(&**wanted),
        other => panic!("{other:?} is not generated"),
    };
    match rule {
        Rule::Always => true,
        Rule::Path(matcher) => !request.path.is_empty() && starts(matcher, request.path.split('?').next().unwrap()),
        Rule::Header(HeaderMatcher { name, test: HeaderTest::String(matcher), .. }) => {
            request.headers.iter().any(|(key, value)| **key == **name && starts(matcher, value))
        }
        Rule::DestinationPort { start, end } => {
            let port = u32::from(facts.destination.port());
            *start <= port && port < *end
        }
        Rule::Authenticated => matches!(facts.peer, Peer::Named(_)),
        Rule::Principal(matcher) => matches!(facts.peer, Peer::Named(id) if starts(matcher, id)),
        Rule::DirectIp(range) => range.contains(facts.direct),
        other => panic!("{other:?} is not generated"),
    }
}

fn leaves() -> impl Strategy<Value = Words> {
    let exact = |text: &'static str| StringMatcher::exact(text);
    prop_oneof![
        Just(Rule::Always),
        prop::sample::select(vec!["/", "/a", "/a/b"]).prop_map(move |path| Rule::Path(exact(path))),
        prop::sample::select(vec!["/", "/a", "/a/b"])
            .prop_map(|path| Rule::Path(StringMatcher { test: StringTest::Prefix(path.into()), ignore_case: false })),
        (prop::sample::select(vec!["x-a", "x-b"]), prop::sample::select(vec!["1", "2"]))
            .prop_map(|(name, value)| header(name, StringTest::Exact(value.into()), false)),
        (0u32..4, 1u32..4)
            .prop_map(|(start, length)| Rule::DestinationPort { start: 80 + start, end: 80 + start + length }),
        Just(Rule::Authenticated),
        prop::sample::select(vec!["a", "b"]).prop_map(move |id| Rule::Principal(exact(id))),
        (0u8..4).prop_map(|last| Rule::DirectIp(Cidr::new(IpAddr::from([10, 0, 0, last]), 31).unwrap())),
    ]
    .prop_map(Words::Leaf)
}

fn words() -> impl Strategy<Value = Words> {
    leaves().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Words::And),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Words::Or),
            inner.prop_map(|words| Words::Not(Box::new(words))),
        ]
    })
}

type NamedWords = (String, Vec<Words>, Vec<Words>);

fn policies() -> impl Strategy<Value = Vec<NamedWords>> {
    let some = || prop::collection::vec(words(), 1..3);
    prop::collection::vec(("[a-e]", some(), some()), 0..4)
}

fn compile(action: Action, policies: &[NamedWords]) -> Rules {
    let rule = |words: &Vec<Words>| words.iter().map(Words::compile).collect();
    let list = policies.iter().map(|(name, what, who)| Policy::new(name.as_str().into(), rule(what), rule(who)));
    Rules::new(action, list.collect())
}

fn naive(action: Action, policies: &[NamedWords], facts: &Facts<'_>, request: &Request) -> bool {
    let any = |words: &[Words]| words.iter().any(|words| words.holds(facts, request));
    let matched = policies.iter().any(|(_, what, who)| any(what) && any(who));
    match action {
        Action::Allow => !matched,
        Action::Deny => matched,
        Action::Log => false,
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Allow, Action::Deny, Action::Log])
}

fn requests(repeats: usize) -> impl Strategy<Value = Request> {
    let field = (prop::sample::select(vec!["x-a", "x-b"]), prop::sample::select(vec!["1", "2"]));
    let path = prop::sample::select(vec!["", "/", "/a", "/a/b", "/a?b", "/b"]);
    (path, prop::collection::vec(field, 0..=repeats)).prop_map(|(path, mut headers)| {
        headers.sort_by_key(|(name, _)| *name);
        get(path, &headers)
    })
}

fn connections() -> impl Strategy<Value = (Option<&'static str>, u16, u8)> {
    (prop::sample::select(vec![None, Some("a"), Some("b")]), 79u16..86, 0u8..6)
}

fn facts_of((peer, port, last): (Option<&'static str>, u16, u8)) -> Facts<'static> {
    let direct = IpAddr::from([10, 0, 0, last]);
    Facts {
        destination: ([10, 0, 0, 1], port).into(),
        direct,
        remote: direct,
        server_name: None,
        peer: peer.map_or(Peer::Anonymous, Peer::Named),
        metadata: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn compiled_rules_decide_as_the_words_do(
        action in action(), policies in policies(), request in requests(1), connection in connections(),
    ) {
        let facts = facts_of(connection);
        let compiled = compile(action, &policies).decide(&facts, &request).is_denied();
        prop_assert_eq!(compiled, naive(action, &policies, &facts, &request));
    }

    #[test]
    fn adding_a_denial_never_allows(
        mut policies in policies(), more in policies(), request in requests(4), connection in connections(),
    ) {
        let facts = facts_of(connection);
        let before = compile(Action::Deny, &policies).decide(&facts, &request).is_denied();
        policies.extend(more);
        let after = compile(Action::Deny, &policies).decide(&facts, &request).is_denied();
        prop_assert!(after || !before);
    }

    #[test]
    fn what_is_doubtful_counts_against_the_caller(
        rule in words(), request in requests(4), connection in connections(),
    ) {
        // Whoever reads only one of the values must not be more careful than the rules were.
        let facts = facts_of(connection);
        let compiled = rule.compile();
        let mut one = request.clone();
        one.headers.dedup_by(|later, first| later.0 == first.0);
        let single = compiled.holds(&facts, &one, Doubt::Fails);
        prop_assert!(single || !compiled.holds(&facts, &request, Doubt::Fails), "allowed only when repeated");
        prop_assert!(!single || compiled.holds(&facts, &request, Doubt::Matches), "not denied when repeated");
    }
}
