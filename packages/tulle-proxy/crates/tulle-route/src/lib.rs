//! Which route a request takes and what happens to its head on the way: pure functions over a compiled route table.

pub mod action;
pub mod canonical;
pub mod config;
pub mod hashing;
pub mod hosts;
pub mod matching;
pub mod mutation;
pub mod redirects;
pub mod rewrite;
pub mod scopes;
pub mod select;

pub use action::{
    ClusterName, ClusterTarget, DirectResponse, DrawBy, Forward, HashPolicy, HashSource, HostRewrite, Mirror,
    MirrorHost, PathRewrite, Redirect, RedirectPath, RegexRewrite, RouteAction, UpgradePolicy, WeightedCluster,
    WhenMissing,
};
pub use config::{Route, RouteConfig, VirtualHost};
pub use hashing::hash_of;
pub use hosts::HostIndex;
pub use matching::{CertificateTest, CookieMatcher, PathMatch, RouteMatch};
pub use mutation::{AppendAction, FilterMutations, HeaderMutation, HeaderMutations, HeaderValue};
pub use redirects::InternalRedirects;
pub use select::{Selected, select, wants_tls};
pub use tulle_policy::query::{QueryMatcher, QueryTest};
pub use tulle_policy::template::{PathTemplate, TemplateRewrite};
