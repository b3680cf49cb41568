//! Cookies (RFC 6265), read and written as Envoy reads and writes them.

use std::fmt::Write as _;
use std::time::Duration;

use crate::{Headers, Str};

/// A cookie that a proxy gives to clients, all but its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie {
    pub name: Str,
    /// Empty for none.
    pub path: Str,
    /// Zero for as long as the client runs.
    pub ttl: Duration,
    /// Further attributes, whose values may be empty.
    pub attributes: Box<[(Str, Str)]>,
}

impl SetCookie {
    /// The value of the `set-cookie` field.
    pub fn written(&self, value: &str) -> String {
        let mut out = format!("{}=\"{value}\"", self.name);
        // Writing into a String cannot fail.
        let mut add = |name: &str, value: &str| {
            let separator = if value.is_empty() { "" } else { "=" };
            let _ = write!(out, "; {name}{separator}{value}");
        };
        if !self.ttl.is_zero() {
            add("Max-Age", &self.ttl.as_secs().to_string());
        }
        if !self.path.is_empty() {
            add("Path", &self.path);
        }
        self.attributes.iter().for_each(|(name, value)| add(name, value));
        add("HttpOnly", "");
        out
    }
}

/// Gives `make` the value of the first cookie of the name, without the quotes around it.
pub fn cookie<T, H: Headers + ?Sized>(request: &H, name: &str, make: impl Fn(&[u8]) -> T) -> Option<T> {
    let mut found = None;
    request.visit_values("cookie", &mut |field| {
        for pair in field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            let value = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            if let (None, Some(value)) = (&found, value) {
                let inner = value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\""));
                found = Some(make(inner.unwrap_or(value)));
            }
        }
    });
    found
}
