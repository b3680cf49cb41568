//! How routing, policy and logging look at a message head without owning or copying it.
//!
//! The data path implements these traits over its HTTP/1 head buffer and over `http::HeaderMap`. They are object-safe
//! and visitor-shaped, so an implementation allocates nothing. Header names are given in lower case; an implementation
//! compares names without regard to ASCII case.

use std::net::IpAddr;

use crate::metadata::Metadata;

/// Read access to a head's header fields, in order of arrival.
pub trait Headers {
    /// The first value of the field `name`.
    fn header(&self, name: &str) -> Option<&[u8]>;

    /// Visits every value of the field `name`.
    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8]));

    /// Visits every field as (name, value); pseudo-headers are not among them.
    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8]));
}

/// Write access to a head's header fields.
pub trait HeadersMut: Headers {
    /// Adds a field after the existing ones.
    fn append(&mut self, name: &str, value: &[u8]);

    /// Replaces every field called `name` by this one, or adds it.
    fn set(&mut self, name: &str, value: &[u8]);

    /// Removes every field called `name`.
    fn remove(&mut self, name: &str);
}

/// A request head as routing sees it.
pub trait RequestView: Headers {
    fn method(&self) -> &str;
    /// The `:authority` or `Host`, as it came (port and case included).
    fn authority(&self) -> &str;
    /// Path and query, as it will be forwarded (origin form); `*` for `OPTIONS *`, empty for CONNECT.
    fn path(&self) -> &str;
    /// `http` or `https`.
    fn scheme(&self) -> &str;

    /// What filters found out of the request; nothing where no filter has run.
    fn metadata(&self) -> Option<&Metadata> {
        None
    }

    /// The client's address, where it is known.
    fn source(&self) -> Option<IpAddr> {
        None
    }

    /// What the client showed of itself by TLS.
    fn certificate(&self) -> Certificate {
        Certificate::default()
    }

    /// The value that header matchers see under `name`, with pseudo-headers under `:method` and so on.
    fn field(&self, name: &str) -> Option<&[u8]> {
        match name {
            ":method" => Some(self.method().as_bytes()),
            ":authority" | "host" => Some(self.authority().as_bytes()),
            ":path" => Some(self.path().as_bytes()),
            ":scheme" => Some(self.scheme().as_bytes()),
            _ => self.header(name),
        }
    }
}

/// Whether a client has shown a certificate, and whether that was verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    pub presented: bool,
    pub validated: bool,
}

/// A request with what is known of it beside its head.
#[derive(Clone, Copy)]
pub struct Described<'a, R> {
    pub request: &'a R,
    /// What filters found out.
    pub metadata: Option<&'a Metadata>,
    pub certificate: Certificate,
    /// The client's address.
    pub source: Option<IpAddr>,
}

impl<R: Headers> Headers for Described<'_, R> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.request.header(name)
    }

    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.request.visit_values(name, visit);
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.request.visit_headers(visit);
    }
}

impl<R: RequestView> RequestView for Described<'_, R> {
    fn method(&self) -> &str {
        self.request.method()
    }

    fn authority(&self) -> &str {
        self.request.authority()
    }

    fn path(&self) -> &str {
        self.request.path()
    }

    fn scheme(&self) -> &str {
        self.request.scheme()
    }

    fn metadata(&self) -> Option<&Metadata> {
        self.metadata
    }

    fn certificate(&self) -> Certificate {
        self.certificate
    }

    fn source(&self) -> Option<IpAddr> {
        self.source
    }

    fn field(&self, name: &str) -> Option<&[u8]> {
        self.request.field(name)
    }
}

/// Headers in a plain list, for tests and for heads built by the proxy itself.
impl Headers for [(&str, &str)] {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }

    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).for_each(|(_, value)| visit(value.as_bytes()));
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.iter().for_each(|(key, value)| visit(key.as_bytes(), value.as_bytes()));
    }
}
