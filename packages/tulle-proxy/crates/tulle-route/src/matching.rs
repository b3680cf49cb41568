//! A route's match: path, headers, query parameters, cookies, runtime fraction.

use tulle_core::cookie::cookie;
use tulle_core::headers::Certificate;
use tulle_core::{FractionalPercent, Headers, RequestView, Str};
use tulle_policy::matcher::has_prefix;
use tulle_policy::query::{QueryMatcher, query_of};
use tulle_policy::rbac::MetadataMatcher;
use tulle_policy::template::PathTemplate;
use tulle_policy::{HeaderMatcher, Regex, StringMatcher};

/// How the path without its query is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum PathMatch {
    Exact(Str),
    Prefix(Str),
    /// `/a` matches `/a` and `/a/b`, not `/ab`; has no trailing slash.
    SeparatedPrefix(Str),
    /// The whole path.
    Regex(Regex),
    Template(PathTemplate),
    /// Any CONNECT request.
    Connect,
}

/// `envoy.config.route.v3.CookieMatcher`: the first cookie of the name counts; an absent one matches only inverted.
#[derive(Clone, Debug, PartialEq)]
pub struct CookieMatcher {
    pub name: Str,
    pub test: StringMatcher,
    pub invert: bool,
}

/// `envoy.config.route.v3.RouteMatch`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    pub path: PathMatch,
    pub case_sensitive: bool,
    /// What stands behind a `;` in each segment of the path is not compared.
    pub ignore_parameters: bool,
    pub headers: Box<[HeaderMatcher]>,
    pub query: Box<[QueryMatcher]>,
    pub cookies: Box<[CookieMatcher]>,
    pub runtime_fraction: Option<FractionalPercent>,
    /// Only requests whose content type is `application/grpc` (or `+...`).
    pub grpc: bool,
    /// On what filters found out: they hold only once a filter has had the route found anew.
    pub metadata: Box<[MetadataMatcher]>,
    pub certificate: CertificateTest,
}

/// `RouteMatch.TlsContextMatchOptions`: what the client must have shown by TLS, or must not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertificateTest {
    pub presented: Option<bool>,
    pub validated: Option<bool>,
}

impl CertificateTest {
    fn matches(self, shown: Certificate) -> bool {
        self.presented.is_none_or(|wanted| wanted == shown.presented)
            && self.validated.is_none_or(|wanted| wanted == shown.validated)
    }
}

impl RouteMatch {
    /// Every request.
    pub fn any() -> Self {
        RouteMatch::path(PathMatch::Prefix("/".into()))
    }

    pub fn path(path: PathMatch) -> Self {
        RouteMatch {
            path,
            case_sensitive: true,
            ignore_parameters: false,
            headers: Box::default(),
            query: Box::default(),
            cookies: Box::default(),
            runtime_fraction: None,
            grpc: false,
            metadata: Box::default(),
            certificate: CertificateTest::default(),
        }
    }
}

impl RouteMatch {
    /// Whether the route takes this request.
    pub fn matches<R: RequestView + ?Sized>(&self, request: &R, random: u64) -> bool {
        self.matches_path(request)
            && (!self.grpc || is_grpc(request))
            && self.headers.iter().all(|matcher| matcher.matches(request))
            && self.query.iter().all(|matcher| matcher.matches(query_of(request.path())))
            && self.cookies.iter().all(|matcher| matcher.matches(request))
            && self.metadata.iter().all(|matcher| matcher.matches(request.metadata()))
            && self.certificate.matches(request.certificate())
            && self.runtime_fraction.is_none_or(|fraction| fraction.hits(random))
    }
}

impl RouteMatch {
    fn matches_path<R: RequestView + ?Sized>(&self, request: &R) -> bool {
        if let PathMatch::Connect = self.path {
            return request.method() == "CONNECT";
        }
        let path = path_of(request.path());
        if self.ignore_parameters && path.contains(';') {
            return self.path.matches_path(&without_parameters(path), self.case_sensitive);
        }
        // A CONNECT without a path goes only to the matcher made for it; `*` is the path of no route.
        path.starts_with('/') && self.path.matches_path(path, self.case_sensitive)
    }
}

impl PathMatch {
    /// On a path without query and fragment.
    pub fn matches_path(&self, path: &str, case_sensitive: bool) -> bool {
        let (bytes, fold) = (path.as_bytes(), !case_sensitive);
        match self {
            PathMatch::Exact(text) if fold => path.eq_ignore_ascii_case(text),
            PathMatch::Exact(text) => path == &**text,
            PathMatch::Prefix(text) => has_prefix(bytes, text.as_bytes(), fold),
            PathMatch::SeparatedPrefix(text) => {
                has_prefix(bytes, text.as_bytes(), fold) && matches!(bytes.get(text.len()), None | Some(b'/'))
            }
            PathMatch::Regex(regex) => regex.is_match(bytes),
            PathMatch::Template(template) => template.matches(path),
            PathMatch::Connect => false,
        }
    }
}

/// A path without what stands in its segments behind a `;`.
fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect();
    segments.join("/")
}

/// The part of a path before `?` and `#`.
pub fn path_of(path: &str) -> &str {
    path.bytes().position(|byte| matches!(byte, b'?' | b'#')).map_or(path, |end| &path[..end])
}

fn is_grpc<R: RequestView + ?Sized>(request: &R) -> bool {
    let Some(kind) = request.header("content-type") else { return false };
    kind.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}

impl CookieMatcher {
    fn matches<H: Headers + ?Sized>(&self, request: &H) -> bool {
        cookie(request, &self.name, |value| self.test.matches(value)).unwrap_or(false) != self.invert
    }
}
