//! Envoy's role-based access control (`envoy.config.rbac.v3`) as immutable rules and a pure decision.
//!
//! Deciding allocates nothing, but for a path that can be read in two ways. Whatever is doubtful counts against the request: where the values of a repeated field
//! disagree, or where servers read a path differently, a DENY rule matches if any of them does, an ALLOW rule only if
//! all of them do; so it is with a value that a regular expression cannot be asked about because it is no text.

pub mod facts;
pub mod metadata;
mod reading;
pub mod rule;

use tulle_core::metadata::{Struct, Value};
use tulle_core::{Metadata, RequestView, Str};

pub use facts::{Facts, NoRequest, Peer};
pub use metadata::{MetadataMatcher, ValueMatcher};
pub use rule::{Doubt, Rule};

/// `envoy.config.rbac.v3.RBAC.Action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Allows what a policy matches and nothing else.
    Allow,
    /// Denies what a policy matches and nothing else.
    Deny,
    /// Denies nothing.
    Log,
}

/// One named policy: both a permission and a principal have to match.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub name: Str,
    pub rule: Rule,
}

impl Policy {
    /// A policy of permissions and principals, any of each.
    pub fn new(name: Str, permissions: Vec<Rule>, principals: Vec<Rule>) -> Self {
        Policy { name, rule: Rule::all(vec![Rule::any(permissions), Rule::any(principals)]) }
    }
}

/// `envoy.config.rbac.v3.RBAC`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    action: Action,
    /// Sorted by name: Envoy keeps them in a sorted map and names the first that matches.
    policies: Box<[Policy]>,
}

/// What the rules say of one request or connection, with the name of the first policy that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'r> {
    Allowed(Option<&'r Str>),
    Denied(Option<&'r Str>),
}

impl Rules {
    pub fn new(action: Action, mut policies: Vec<Policy>) -> Self {
        policies.sort_by(|left, right| left.name.cmp(&right.name));
        Rules { action, policies: policies.into() }
    }

    pub fn action(&self) -> Action {
        self.action
    }

    /// Decides for a request, or with [`NoRequest`] for a connection.
    pub fn decide<R: RequestView + ?Sized>(&self, facts: &Facts<'_>, request: &R) -> Verdict<'_> {
        let doubt = match self.action {
            Action::Allow => Doubt::Fails,
            Action::Deny | Action::Log => Doubt::Matches,
        };
        let matched = self.policies.iter().find(|policy| policy.rule.holds(facts, request, doubt));
        let name = matched.map(|policy| &policy.name);
        match (self.action, name) {
            (Action::Allow, None) | (Action::Deny, Some(_)) => Verdict::Denied(name),
            (Action::Allow, Some(_)) | (Action::Deny, None) | (Action::Log, _) => Verdict::Allowed(name),
        }
    }
}

impl<'r> Verdict<'r> {
    /// The policy that decided; `None` where none matched.
    pub fn policy(self) -> Option<&'r Str> {
        let (Verdict::Allowed(name) | Verdict::Denied(name)) = self;
        name
    }

    pub fn is_denied(self) -> bool {
        matches!(self, Verdict::Denied(_))
    }

    /// `%RESPONSE_CODE_DETAILS%` of a denial: Envoy's words, with blanks as underscores.
    pub fn details(self) -> String {
        let name = self.policy().map_or("none", |name| name);
        format!("rbac_access_denied_matched_policy[{}]", name.replace(|c: char| c.is_ascii_whitespace(), "_"))
    }
}

/// One filter's rules: those that decide, and those whose verdict is only counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Rbac {
    /// `None` lets everything pass.
    pub enforced: Option<Rules>,
    pub shadow: Option<Rules>,
    /// Begins the keys of metadata under which the shadow verdict is found.
    pub shadow_prefix: Str,
    /// Whether shadow verdicts are counted by policy too.
    pub counted_by_policy: bool,
}

/// Where the HTTP filter leaves its shadow verdict.
pub const METADATA: &str = "envoy.filters.http.rbac";
/// Where the network filter does.
pub const NETWORK_METADATA: &str = "envoy.filters.network.rbac";

impl Rbac {
    /// The shadow verdict as metadata of the filter `of`, for later filters and for logs.
    pub fn shadow_metadata(&self, verdict: Verdict<'_>, of: &str) -> Metadata {
        let key = |name: &str| Str::from(format!("{}{name}", self.shadow_prefix));
        let result = if verdict.is_denied() { "denied" } else { "allowed" };
        let mut fields = Struct::from([(key("shadow_engine_result"), Value::String(result.into()))]);
        if let Some(policy) = verdict.policy() {
            fields.insert(key("shadow_effective_policy_id"), Value::String(policy.clone()));
        }
        Metadata { filters: [(of.into(), fields)].into() }
    }
}
