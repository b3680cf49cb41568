//! What a matched route does: forward, redirect, or answer directly.

use tulle_core::cookie::SetCookie;
use tulle_core::{FractionalPercent, Str};
use tulle_policy::descriptors::{HostSlots, RateLimitSlot};
use tulle_policy::limits::Priority;
use tulle_policy::{FilterOverrides, RetryPolicy, TimeoutPolicy};
use tulle_telemetry::TextFormat;

use crate::mutation::{HeaderMutation, HeaderMutations};
use crate::redirects::InternalRedirects;

/// The action of a route.
#[derive(Clone, Debug)]
pub enum RouteAction {
    Forward(Box<Forward>),
    Redirect(Box<Redirect>),
    Direct(Box<DirectResponse>),
    /// `non_forwarding_action`: inbound gRPC servers; a proxy answers such a request with 503, as it has no cluster.
    NonForwarding,
}

/// `envoy.config.route.v3.RouteAction`.
#[derive(Clone, Debug)]
pub struct Forward {
    pub target: ClusterTarget,
    /// What decides among weighted clusters, where the request has it; else chance does.
    pub draw_by: Option<DrawBy>,
    /// Answered when the chosen cluster does not exist: 503 by default, else 404 or 500.
    pub cluster_not_found_status: u16,
    pub path_rewrite: Option<PathRewrite>,
    pub host_rewrite: Option<HostRewrite>,
    pub append_x_forwarded_host: bool,
    pub timeouts: TimeoutPolicy,
    pub retry: Option<RetryPolicy>,
    /// Whether a try that takes too long is left running beside the next (`hedge_on_per_try_timeout`), where it is said.
    pub hedged: Option<bool>,
    pub hash: Box<[HashPolicy]>,
    pub mirrors: Box<[Mirror]>,
    pub upgrades: Box<[UpgradePolicy]>,
    pub priority: Priority,
    /// Label requirements for subset load balancing (`metadata_match` under `envoy.lb`), sorted by key.
    pub subset: Box<[(Str, Str)]>,
    /// Which rate-limit descriptors a request has, and what those of the virtual host are beside them.
    pub rate_limits: Box<[RateLimitSlot]>,
    pub host_rate_limits: HostSlots,
    /// Redirects of the upstream that are followed here.
    pub internal_redirects: Option<Box<InternalRedirects>>,
}

impl Forward {
    /// To one cluster, with everything else at Envoy's defaults.
    pub fn to(cluster: Str) -> Self {
        Forward {
            target: ClusterTarget::Single(cluster),
            draw_by: None,
            cluster_not_found_status: 503,
            path_rewrite: None,
            host_rewrite: None,
            append_x_forwarded_host: false,
            timeouts: TimeoutPolicy::default(),
            retry: None,
            hedged: None,
            hash: Box::default(),
            mirrors: Box::default(),
            upgrades: Box::default(),
            priority: Priority::Default,
            subset: Box::default(),
            rate_limits: Box::default(),
            host_rate_limits: HostSlots::default(),
            internal_redirects: None,
        }
    }

    /// Whether CONNECT ends here, its payload going on as bytes (`connect_config`).
    pub fn ends_connect(&self) -> bool {
        self.upgrades.iter().any(|upgrade| upgrade.terminate_connect)
    }
}

/// What decides among weighted clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrawBy {
    /// The number in this request header.
    Header(Str),
    /// The hash that the route's hash policies give.
    Hash,
}

/// Where a forwarded request goes.
#[derive(Clone, Debug)]
pub enum ClusterTarget {
    Single(Str),
    /// By ratio of the weights' sum.
    Weighted(Box<[WeightedCluster]>),
    /// The cluster named by this request header (lower case, or `:authority`).
    Header(Str),
}

/// A cluster by its name, or by the request header that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterName {
    Is(Str),
    /// In lower case, or `:authority`.
    Header(Str),
}

/// One arm of `weighted_clusters`.
#[derive(Clone, Debug)]
pub struct WeightedCluster {
    pub name: ClusterName,
    pub weight: u32,
    pub mutations: HeaderMutations,
    pub host_rewrite: Option<Str>,
    /// Added to (and overriding) the route's subset labels, sorted by key.
    pub subset: Box<[(Str, Str)]>,
    pub filters: FilterOverrides,
}

/// How the forwarded path is made.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// Replaces the matched prefix or exact path.
    Prefix(Str),
    Regex(RegexRewrite),
    Template(tulle_policy::template::TemplateRewrite),
    /// The whole path is what the format gives, unless that is nothing.
    Format(TextFormat),
}

/// `RegexMatchAndSubstitute`: every match in the path (without query) is replaced; `\0`…`\9` are captures.
#[derive(Clone, Debug)]
pub struct RegexRewrite {
    pub pattern: regex::bytes::Regex,
    pub substitution: crate::rewrite::Substitution,
}

/// How the forwarded authority is made.
#[derive(Clone, Debug)]
pub enum HostRewrite {
    Literal(Str),
    /// The chosen endpoint's host name (strict and logical DNS clusters).
    Auto,
    /// The value of this request header.
    Header(Str),
    /// From the path, by regular expression.
    PathRegex(RegexRewrite),
    /// What the format gives, unless that is nothing.
    Format(TextFormat),
}

/// `RouteAction.HashPolicy`: what consistent hashing hashes.
#[derive(Clone, Debug)]
pub struct HashPolicy {
    pub source: HashSource,
    /// Stop here when this one gave a hash.
    pub terminal: bool,
}

/// A hash policy's source.
#[derive(Clone, Debug)]
pub enum HashSource {
    Header { name: Str, rewrite: Option<RegexRewrite> },
    Cookie { cookie: SetCookie, when_missing: WhenMissing },
    SourceIp,
    QueryParameter(Str),
    FilterState(Str),
}

/// What a request without the cookie gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenMissing {
    NotHashed,
    /// A cookie of a value made for it, which is hashed.
    Generated,
}

/// `RequestMirrorPolicy`.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub cluster: ClusterName,
    pub fraction: FractionalPercent,
    pub host: MirrorHost,
    /// What is changed in the copy's head, in this order.
    pub mutations: Box<[HeaderMutation]>,
}

/// The authority of a mirrored request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MirrorHost {
    /// The request's own, with `-shadow` appended.
    #[default]
    Shadow,
    Keep,
    Is(Str),
}

/// Per-route permission of an upgrade (`websocket`, `CONNECT`, …; compared without case).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradePolicy {
    pub kind: Str,
    pub enabled: bool,
    /// CONNECT: terminate it and forward the payload as TCP.
    pub terminate_connect: bool,
}

/// `envoy.config.route.v3.RedirectAction`.
#[derive(Clone, Debug)]
pub struct Redirect {
    pub https: bool,
    pub scheme: Option<Str>,
    pub host: Option<Str>,
    pub port: Option<u16>,
    pub path: RedirectPath,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    pub strip_query: bool,
}

/// A redirect's path.
#[derive(Clone, Debug)]
pub enum RedirectPath {
    Keep,
    /// May carry its own query, which then replaces the request's.
    Replace(Str),
    Prefix(Str),
    Regex(RegexRewrite),
}

/// `envoy.config.route.v3.DirectResponseAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    pub status: u16,
    pub body: Box<[u8]>,
}
