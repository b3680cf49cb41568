//! Permissions and principals as one kind of rule: both are conditions on a request and its connection.

use tulle_core::{Cidr, RequestView};

use super::facts::{Facts, Peer};
use super::metadata::MetadataMatcher;
use super::reading;
use crate::matcher::{HeaderMatcher, HeaderTest, StringMatcher, StringTest};
use crate::template::PathTemplate;

/// How a condition on a repeated field counts when its values do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    Matches,
    Fails,
}

/// `envoy.config.rbac.v3.Permission` and `Principal`.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    Always,
    Never,
    All(Box<[Rule]>),
    Any(Box<[Rule]>),
    Not(Box<Rule>),
    Header(HeaderMatcher),
    /// On the path without query and fragment; a request without a path never matches.
    Path(StringMatcher),
    Template(PathTemplate),
    DestinationIp(Cidr),
    /// The connection's local port in `start..end`.
    DestinationPort {
        start: u32,
        end: u32,
    },
    ServerName(StringMatcher),
    Metadata(MetadataMatcher),
    /// Any peer with a verified certificate.
    Authenticated,
    /// A peer whose SPIFFE id matches.
    Principal(StringMatcher),
    DirectIp(Cidr),
    RemoteIp(Cidr),
}

impl Rule {
    /// All of `rules`, simplified; of none, always. The cheap ones are asked first.
    pub fn all(rules: Vec<Rule>) -> Rule {
        let mut left = Vec::with_capacity(rules.len());
        for rule in rules {
            match rule {
                Rule::Always => {}
                Rule::Never => return Rule::Never,
                Rule::All(inner) => left.extend(inner),
                other => left.push(other),
            }
        }
        left.sort_by_key(Rule::cost);
        match left.len() {
            0 => Rule::Always,
            1 => left.remove(0),
            _ => Rule::All(left.into()),
        }
    }

    /// Any of `rules`, simplified; of none, never.
    pub fn any(rules: Vec<Rule>) -> Rule {
        let mut left = Vec::with_capacity(rules.len());
        for rule in rules {
            match rule {
                Rule::Never => {}
                Rule::Always => return Rule::Always,
                Rule::Any(inner) => left.extend(inner),
                other => left.push(other),
            }
        }
        left.sort_by_key(Rule::cost);
        match left.len() {
            0 => Rule::Never,
            1 => left.remove(0),
            _ => Rule::Any(left.into()),
        }
    }

    /// The opposite of `rule`.
    pub fn negated(rule: Rule) -> Rule {
        match rule {
            Rule::Always => Rule::Never,
            Rule::Never => Rule::Always,
            Rule::Not(inner) => *inner,
            other => Rule::Not(Box::new(other)),
        }
    }

    /// Whether the rule holds. `doubt` turns round below a negation.
    pub fn holds<R: RequestView + ?Sized>(&self, facts: &Facts<'_>, request: &R, doubt: Doubt) -> bool {
        match self {
            Rule::Always => true,
            Rule::Never => false,
            Rule::All(rules) => rules.iter().all(|rule| rule.holds(facts, request, doubt)),
            Rule::Any(rules) => rules.iter().any(|rule| rule.holds(facts, request, doubt)),
            Rule::Not(rule) => !rule.holds(facts, request, doubt.turned()),
            Rule::Header(matcher) => header(matcher, request, doubt),
            Rule::Path(matcher) => path(request, doubt, |path| matcher.matches(path.as_bytes())),
            Rule::Template(template) => path(request, doubt, |path| template.matches(path)),
            Rule::DestinationIp(range) => range.contains(facts.destination.ip()),
            Rule::DestinationPort { start, end } => (*start..*end).contains(&u32::from(facts.destination.port())),
            // Without SNI the name is empty, as in Envoy: a matcher of the empty name matches.
            Rule::ServerName(matcher) => matcher.matches(facts.server_name.unwrap_or_default().as_bytes()),
            Rule::Metadata(matcher) => matcher.matches(facts.metadata),
            Rule::Authenticated => facts.peer != Peer::Anonymous,
            Rule::Principal(matcher) => match facts.peer {
                Peer::Named(id) => matcher.matches(id.as_bytes()),
                Peer::Anonymous | Peer::Unnamed => false,
            },
            Rule::DirectIp(range) => range.contains(facts.direct),
            Rule::RemoteIp(range) => range.contains(facts.remote),
        }
    }

    /// A rough order of what a rule costs to ask.
    fn cost(&self) -> u32 {
        match self {
            Rule::Always | Rule::Never | Rule::Authenticated | Rule::DestinationPort { .. } => 0,
            Rule::DestinationIp(_) | Rule::DirectIp(_) | Rule::RemoteIp(_) => 1,
            Rule::ServerName(_) | Rule::Principal(_) | Rule::Path(_) => 2,
            Rule::Header(_) => 4,
            Rule::Metadata(_) | Rule::Template(_) => 8,
            Rule::Not(rule) => rule.cost(),
            Rule::All(rules) | Rule::Any(rules) => rules.iter().map(Rule::cost).fold(1, u32::saturating_add),
        }
    }
}

impl Doubt {
    fn turned(self) -> Doubt {
        match self {
            Doubt::Matches => Doubt::Fails,
            Doubt::Fails => Doubt::Matches,
        }
    }
}

/// Envoy takes any value that matches; upstreams may look at the first, at the last, or at all of them. So every value
/// is asked, and doubt decides.
fn header<R: RequestView + ?Sized>(matcher: &HeaderMatcher, request: &R, doubt: Doubt) -> bool {
    if matcher.name.starts_with(':') || &*matcher.name == "host" {
        return matcher.evaluate(request.field(&matcher.name));
    }
    let (mut count, mut hits) = (0, 0);
    request.visit_values(&matcher.name, &mut |value| {
        count += 1;
        hits += usize::from(if is_readable(matcher, value) {
            matcher.evaluate(Some(value))
        } else {
            doubt == Doubt::Matches
        });
    });
    match (count, doubt) {
        (0, _) => matcher.evaluate(None),
        (_, Doubt::Matches) => hits > 0,
        (_, Doubt::Fails) => hits == count,
    }
}

/// Regular expressions are about text: bytes that are none match no `.`, so that a rule on them could be got around.
fn is_readable(matcher: &HeaderMatcher, value: &[u8]) -> bool {
    let by_regex = matches!(&matcher.test, HeaderTest::String(StringMatcher { test: StringTest::Regex(_), .. }));
    !by_regex || value.is_ascii() || std::str::from_utf8(value).is_ok()
}

/// Asks about the path as it is and, where a server may read it differently, about that too.
fn path<R: RequestView + ?Sized>(request: &R, doubt: Doubt, holds: impl Fn(&str) -> bool) -> bool {
    let Some(path) = path_of(request) else { return false };
    match (holds(path), doubt) {
        (true, Doubt::Matches) => true,
        (false, Doubt::Fails) => false,
        (alone, _) => reading::lenient(path).map_or(alone, |other| holds(&other)),
    }
}

/// The path without query and fragment; `None` when the request has none.
fn path_of<R: RequestView + ?Sized>(request: &R) -> Option<&str> {
    let full = request.path();
    let path = full.find(['?', '#']).map_or(full, |end| &full[..end]);
    (!full.is_empty()).then_some(path)
}
