//! Cross-origin resource sharing as Envoy's filter does it: which origins are allowed, and what they are told.

use tulle_core::{FractionalPercent, Headers, HeadersMut, RequestView, Str};

use crate::matcher::StringMatcher;

/// `envoy.extensions.filters.http.cors.v3.CorsPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct CorsPolicy {
    pub enabled: FractionalPercent,
    pub origins: Box<[StringMatcher]>,
    /// Header values, as configured; an empty one is not sent.
    pub allow_methods: Str,
    pub allow_headers: Str,
    pub expose_headers: Str,
    pub max_age: Str,
    pub allow_credentials: Option<bool>,
    /// Whether preflights of private networks are permitted.
    pub allow_private_network: Option<bool>,
    pub preflights: Option<Preflights>,
}

/// What happens to a preflight of an origin that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflights {
    /// The upstream gets it: Envoy's default.
    Forward,
    /// The proxy answers it, without permission.
    Answer,
}

/// What a request is to CORS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorsRequest {
    /// Without an origin, or the policy is off: none of our business.
    Plain,
    /// Of an origin that is not allowed; the response says nothing of it.
    Foreign,
    /// A preflight of an origin that is not allowed, to be answered by the proxy.
    ForeignPreflight,
    /// Of an allowed origin: the response is to carry [`CorsPolicy::tell`].
    Allowed,
    /// A preflight of an allowed origin, to be answered by the proxy.
    Preflight,
}

impl CorsPolicy {
    /// Classifies a request; `random` are 64 uniform bits.
    pub fn classify<R: RequestView + ?Sized>(&self, request: &R, random: u64) -> CorsRequest {
        let Some(origin) = request.header("origin").filter(|origin| !origin.is_empty()) else {
            return CorsRequest::Plain;
        };
        if !self.enabled.hits(random) {
            return CorsRequest::Plain;
        }
        let method = request.header("access-control-request-method");
        let preflight = request.method() == "OPTIONS" && method.is_some_and(|method| !method.is_empty());
        match (self.allows(origin), preflight) {
            (true, true) => CorsRequest::Preflight,
            (true, false) => CorsRequest::Allowed,
            (false, true) if self.preflights == Some(Preflights::Answer) => CorsRequest::ForeignPreflight,
            (false, _) => CorsRequest::Foreign,
        }
    }

    /// Takes what this policy leaves open from that of the enclosing level, as Envoy does field by field.
    pub fn inherit(&mut self, outer: &CorsPolicy) {
        if self.origins.is_empty() {
            self.origins = outer.origins.clone();
        }
        for (own, theirs) in [
            (&mut self.allow_methods, &outer.allow_methods),
            (&mut self.allow_headers, &outer.allow_headers),
            (&mut self.expose_headers, &outer.expose_headers),
            (&mut self.max_age, &outer.max_age),
        ] {
            if own.is_empty() {
                *own = theirs.clone();
            }
        }
        self.allow_credentials = self.allow_credentials.or(outer.allow_credentials);
        self.allow_private_network = self.allow_private_network.or(outer.allow_private_network);
        self.preflights = self.preflights.or(outer.preflights);
    }

    fn tell_credentials<H: HeadersMut + ?Sized>(&self, response: &mut H) {
        if self.allow_credentials == Some(true) {
            response.set("access-control-allow-credentials", b"true");
        }
    }

    fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|matcher| {
            // An exact `*` is any origin, as in Envoy.
            matches!(&matcher.test, crate::matcher::StringTest::Exact(text) if &**text == "*")
                || matcher.matches(origin)
        })
    }

    /// Writes what every response to an allowed origin says.
    pub fn tell<H: HeadersMut + ?Sized>(&self, origin: &[u8], response: &mut H) {
        response.set("access-control-allow-origin", origin);
        self.tell_credentials(response);
        if !self.expose_headers.is_empty() {
            response.set("access-control-expose-headers", self.expose_headers.as_bytes());
        }
    }

    /// Writes what the answer to a preflight says besides, whoever asks: without an allowed origin it permits nothing.
    /// A `*` permits what is asked for.
    pub fn permit<R, H>(&self, request: &R, response: &mut H)
    where
        R: Headers + ?Sized,
        H: HeadersMut + ?Sized,
    {
        self.tell_credentials(response);
        let fields = [
            ("access-control-allow-methods", &self.allow_methods, Some("access-control-request-method")),
            ("access-control-allow-headers", &self.allow_headers, Some("access-control-request-headers")),
            ("access-control-max-age", &self.max_age, None),
        ];
        for (name, value, asked) in fields {
            match asked {
                Some(asked) if &**value == "*" => response.set(name, request.header(asked).unwrap_or_default()),
                _ if value.is_empty() => {}
                _ => response.set(name, value.as_bytes()),
            }
        }
        let private = request.header("access-control-request-private-network") == Some(b"true");
        if private && self.allow_private_network == Some(true) {
            response.set("access-control-allow-private-network", b"true");
        }
    }
}
