//! Cookies of a request (RFC 6265 §4.2), read as Envoy reads them.

use crate::Headers;

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
