//! Heads as routing, policies and logs see them.

use tulle_core::headers::{Headers as View, HeadersMut, RequestView};

use crate::head::{RequestHead, ResponseHead};
use crate::headers::Headers;

impl View for Headers {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.get(name.as_bytes())
    }

    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.values(name.as_bytes()).for_each(visit);
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.iter().for_each(|(_, name, value)| visit(name, value));
    }
}

/// Fields that are kept as one, their values joined by commas: those for which Envoy has a place of their own.
fn joins(name: &str) -> bool {
    const ONE: [&str; 40] = [
        "accept",
        "accept-encoding",
        "access-control-allow-credentials",
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "access-control-max-age",
        "access-control-request-headers",
        "access-control-request-method",
        "authentication",
        "authorization",
        "cache-control",
        "cdn-loop",
        "content-encoding",
        "content-type",
        "etag",
        "expect",
        "grpc-accept-encoding",
        "grpc-message",
        "grpc-status",
        "grpc-timeout",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "last-modified",
        "location",
        "origin",
        "pragma",
        "proxy-status",
        "referer",
        "server",
        "te",
        "user-agent",
        "vary",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
    ];
    ONE.binary_search(&name).is_ok() || name == "x-forwarded-proto" || name == "x-request-id"
}

impl HeadersMut for Headers {
    fn append(&mut self, name: &str, value: &[u8]) {
        if joins(name) {
            self.append_csv(name.as_bytes(), value);
        } else {
            self.push(name.as_bytes(), value);
        }
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        Headers::set(self, name.as_bytes(), value);
    }

    fn remove(&mut self, name: &str) {
        Headers::remove(self, name.as_bytes());
    }
}

macro_rules! by_headers {
    ($type:ty) => {
        impl View for $type {
            fn header(&self, name: &str) -> Option<&[u8]> {
                self.headers.header(name)
            }

            fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
                self.headers.visit_values(name, visit);
            }

            fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
                self.headers.visit_headers(visit);
            }
        }
    };
}

by_headers!(RequestHead);
by_headers!(ResponseHead);

/// Text that was checked to be ASCII when it was parsed.
fn ascii(bytes: &[u8]) -> &str {
    tulle_core::text::utf8(bytes).unwrap_or_default()
}

impl RequestView for RequestHead {
    fn method(&self) -> &str {
        ascii(RequestHead::method(self))
    }

    fn authority(&self) -> &str {
        ascii(RequestHead::authority(self))
    }

    fn path(&self) -> &str {
        ascii(RequestHead::path(self))
    }

    fn scheme(&self) -> &str {
        if self.secure_scheme { "https" } else { "http" }
    }
}
