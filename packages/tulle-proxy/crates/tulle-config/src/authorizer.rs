//! External authorization (`envoy.extensions.filters.http.ext_authz.v3.ExtAuthz`): who is asked, what they are told,
//! and what of their answer counts.

use std::time::Duration;

use tulle_core::{FractionalPercent, Str};
use tulle_policy::StringMatcher;
use tulle_policy::authorizer::BodyShown;
use tulle_policy::rbac::MetadataMatcher;

use crate::grpc::GrpcService;

#[derive(Clone, Debug)]
pub struct Authorizer {
    pub service: AuthorizerService,
    /// Requests pass when nobody can be asked; else they are refused.
    pub failure: OnFailure,
    pub body: Option<BodyShown>,
    pub clear_route_cache: bool,
    pub enabled: FractionalPercent,
    /// Only requests of which filters found this out are asked about.
    pub enabled_by: Option<MetadataMatcher>,
    /// Requests that are not asked about are refused with this status; `None` lets them pass.
    pub status_when_disabled: Option<u16>,
    /// Metadata of these filters is shown.
    pub metadata: Box<[Str]>,
    /// `None`: the service's own default.
    pub allowed_headers: Option<Box<[StringMatcher]>>,
    pub disallowed_headers: Box<[StringMatcher]>,
    /// Longest body of a refusal that is passed on, in bytes; `None`: as much as is read.
    pub max_denied_body: Option<usize>,
    /// The server name of the client's TLS is shown.
    pub tls_session: bool,
}

#[derive(Clone, Debug)]
pub enum AuthorizerService {
    Http(HttpAuthorizer),
    Grpc(GrpcService),
}

#[derive(Clone, Debug)]
pub struct HttpAuthorizer {
    pub cluster: Str,
    pub timeout: Duration,
    pub path_prefix: Str,
    pub headers_to_add: Box<[(Str, Str)]>,
    /// Of an answer that allows: what replaces, and what is added to, the request's fields.
    pub to_upstream: Box<[StringMatcher]>,
    pub to_upstream_appended: Box<[StringMatcher]>,
    /// Of an answer that refuses: `None` passes everything on.
    pub to_client: Option<Box<[StringMatcher]>>,
    pub to_client_on_success: Box<[StringMatcher]>,
}

/// An authorizer that is asked over gRPC about a connection (`envoy.extensions.filters.network.ext_authz.v3.ExtAuthz`).
#[derive(Clone, Debug)]
pub struct ConnectionAuthorizer {
    pub service: GrpcService,
    /// Connections pass when nobody can be asked.
    pub fail_open: bool,
    /// Only connections of which access rules found this out are asked about.
    pub enabled_by: Option<MetadataMatcher>,
    /// The server name of the client's TLS is shown.
    pub tls_session: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Refused with this status.
    Deny(u16),
    Allow,
    /// The upstream sees that nobody was asked.
    AllowAndTell,
}
