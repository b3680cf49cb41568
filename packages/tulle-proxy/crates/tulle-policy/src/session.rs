//! Session affinity: the client keeps, in a cookie or a header, which endpoint its requests belong to
//! (`envoy.filters.http.stateful_session`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tulle_core::cookie::{SetCookie, cookie};
use tulle_core::{Address, RequestView, Str};

/// Settings of one session filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Without one there are no sessions.
    pub store: Option<SessionStore>,
    /// A request whose endpoint cannot take it is refused, and not sent to another one.
    pub strict: bool,
    /// Answered by a strict filter when the endpoint has left the cluster; 503 by default.
    pub gone_status: u16,
}

/// Where the client keeps the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionStore {
    /// A cookie with the base64 of Envoy's `Cookie` message: the address, and when it ends. Only requests under the
    /// cookie's path have the session; with an empty one all have.
    Cookie(SetCookie),
    /// A request and response header, in lower case, with the base64 of the address.
    Header(Str),
}

impl SessionStore {
    /// Whether requests to this path (with or without query) take part.
    pub fn concerns(&self, path: &str) -> bool {
        let SessionStore::Cookie(cookie) = self else { return true };
        let plain = path.split(['?', '#']).next().unwrap_or_default();
        match plain.strip_prefix(&*cookie.path) {
            _ if cookie.path.is_empty() || &*cookie.path == "/" => true,
            Some(rest) => rest.is_empty() || cookie.path.ends_with('/') || rest.starts_with('/'),
            None => false,
        }
    }

    /// The endpoint that the request belongs to; `now` in seconds since 1970.
    pub fn endpoint<R: RequestView + ?Sized>(&self, request: &R, now: u64) -> Option<Address> {
        let text = match self {
            SessionStore::Header(name) => STANDARD.decode(request.header(name)?).ok()?,
            SessionStore::Cookie(own) => {
                let content = cookie(request, &own.name, |value| STANDARD.decode(value).ok()).flatten()?;
                let Kept { address, expires } = Kept::read(&content)?;
                if expires != 0 && expires < now {
                    return None;
                }
                address.to_vec()
            }
        };
        let text = String::from_utf8(text).ok().filter(|text| !text.is_empty())?;
        // What is no socket is a path, which no endpoint may have.
        Some(text.parse().map_or_else(|_| Address::Pipe(text.into()), Address::Ip))
    }

    /// The response's field that tells the client its endpoint; `now` in seconds since 1970.
    pub fn field(&self, endpoint: &Address, now: u64) -> (&str, String) {
        let address = endpoint.to_string();
        match self {
            SessionStore::Header(name) => (name, STANDARD.encode(address)),
            SessionStore::Cookie(own) => {
                let ttl = own.ttl.as_secs();
                let expires = if ttl == 0 { 0 } else { now.saturating_add(ttl) };
                let content = STANDARD.encode(Kept { address: address.as_bytes(), expires }.written());
                ("set-cookie", own.written(&content))
            }
        }
    }
}

/// `envoy.Cookie`, in protobuf's encoding: the address (field 1) and the end in seconds (field 2).
struct Kept<'a> {
    address: &'a [u8],
    expires: u64,
}

impl<'a> Kept<'a> {
    fn written(&self) -> Vec<u8> {
        let mut out = vec![0x0a];
        varint(self.address.len() as u64, &mut out);
        out.extend_from_slice(self.address);
        if self.expires != 0 {
            out.push(0x10);
            varint(self.expires, &mut out);
        }
        out
    }

    fn read(mut rest: &'a [u8]) -> Option<Kept<'a>> {
        let mut kept = Kept { address: b"", expires: 0 };
        while let Some((tag, after)) = rest.split_first() {
            rest = after;
            match tag {
                0x0a => {
                    let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                    (kept.address, rest) = rest.split_at_checked(length)?;
                }
                0x10 => kept.expires = read_varint(&mut rest)?,
                _ => return None,
            }
        }
        Some(kept)
    }
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Request(Vec<(&'static str, String)>);

    impl tulle_core::Headers for Request {
        fn header(&self, name: &str) -> Option<&[u8]> {
            self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes())
        }

        fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
            self.0.iter().filter(|(key, _)| *key == name).for_each(|(_, value)| visit(value.as_bytes()));
        }

        fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
            self.0.iter().for_each(|(key, value)| visit(key.as_bytes(), value.as_bytes()));
        }
    }

    impl RequestView for Request {
        fn method(&self) -> &str {
            "GET"
        }

        fn authority(&self) -> &str {
            "h"
        }

        fn path(&self) -> &str {
            "/"
        }

        fn scheme(&self) -> &str {
            "http"
        }
    }

    fn stored(path: &str, ttl: u64) -> SessionStore {
        let attributes = Box::new([("SameSite".into(), "Lax".into()), ("Secure".into(), "".into())]);
        SessionStore::Cookie(SetCookie {
            name: "s".into(),
            path: path.into(),
            ttl: Duration::from_secs(ttl),
            attributes,
        })
    }

    /// The cookie that a client sends back.
    fn returned(field: &str) -> Request {
        let pair = field.split(';').next().unwrap_or_default();
        Request(vec![("cookie", format!("a=b; {pair}"))])
    }

    #[test]
    fn a_cookie_names_its_endpoint_until_it_ends() {
        let (one, store): (Address, _) = (Address::Ip("127.0.0.1:8080".parse().unwrap()), stored("/app", 60));
        let (name, field) = store.field(&one, 1_000);
        assert_eq!(name, "set-cookie");
        assert!(field.ends_with("; Max-Age=60; Path=/app; SameSite=Lax; Secure; HttpOnly"), "{field}");
        let request = returned(&field);
        assert_eq!(store.endpoint(&request, 1_060).as_ref(), Some(&one));
        assert_eq!(store.endpoint(&request, 1_061), None);
        // The address alone, as Envoy's own client tests write it.
        let own = Request(vec![("cookie", "s=\"Cg4xMjcuMC4wLjE6ODA4MA==\"".to_owned())]);
        assert_eq!(store.endpoint(&own, u64::MAX).as_ref(), Some(&one));
        assert!(stored("", 0).field(&one, 1_000).1.starts_with("s=\"Cg4xMjcuMC4wLjE6ODA4MA==\"; SameSite"));
    }

    #[test]
    fn what_is_no_cookie_of_ours_names_nothing() {
        for value in ["", "!!", "Cg4x", "eA==", "EAE=", "CgA="] {
            let request = Request(vec![("cookie", format!("s={value}"))]);
            assert_eq!(stored("", 0).endpoint(&request, 0), None, "{value}");
        }
    }

    #[test]
    fn cookies_have_paths() {
        let table = [
            ("", "/x", true),
            ("/", "/x", true),
            ("/app", "/app?q", true),
            ("/app", "/app/x", true),
            ("/app", "/apple", false),
            ("/app/", "/app/x", true),
            ("/app/", "/app", false),
        ];
        for (cookie, path, expected) in table {
            assert_eq!(stored(cookie, 0).concerns(path), expected, "{cookie} on {path}");
        }
        assert!(SessionStore::Header("x".into()).concerns("/anything"));
    }

    #[test]
    fn a_header_names_its_endpoint() {
        let store = SessionStore::Header("x-session".into());
        let one = Address::Ip("[::1]:80".parse().unwrap());
        let (name, value) = store.field(&one, 0);
        assert_eq!((name, &*value), ("x-session", "Wzo6MV06ODA="));
        assert_eq!(store.endpoint(&Request(vec![("x-session", value)]), 0), Some(one));
        let other = Request(vec![("x-session", STANDARD.encode("no socket"))]);
        assert_eq!(store.endpoint(&other, 0), Some(Address::Pipe("no socket".into())));
    }
}
