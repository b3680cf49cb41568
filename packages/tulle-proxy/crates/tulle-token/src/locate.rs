//! Where in a request tokens are looked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use tulle_core::{RequestView, Str};

use crate::provider::Provider;

/// A place where a token was found, as it is taken away again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Header(Str),
    Param(Str),
    Cookie(Str),
}

/// The places of some providers, each with the issuers that may be believed there.
#[derive(Debug, Default)]
pub struct Places {
    found: BTreeMap<(Place, Str), Issuers>,
}

#[derive(Debug, Default)]
struct Issuers {
    any: bool,
    named: Vec<Str>,
}

/// A token as it stands in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<'p> {
    pub place: &'p Place,
    pub text: String,
    at: &'p (Place, Str),
}

const BEARER: &str = "Bearer ";
const ACCESS_TOKEN: &str = "access_token";

impl Places {
    pub fn of(providers: &[Arc<Provider>]) -> Places {
        let mut places = Places::default();
        for provider in providers {
            let mut add = |place: Place, prefix: Str| {
                let issuers = places.found.entry((place, prefix)).or_default();
                match &provider.issuer {
                    None => issuers.any = true,
                    Some(issuer) => issuers.named.push(issuer.clone()),
                }
            };
            for (name, prefix) in &provider.from_headers {
                add(Place::Header(name.clone()), prefix.clone());
            }
            for name in &provider.from_params {
                add(Place::Param(name.clone()), "".into());
            }
            for name in &provider.from_cookies {
                add(Place::Cookie(name.clone()), "".into());
            }
            if provider.from_headers.is_empty() && provider.from_params.is_empty() && provider.from_cookies.is_empty() {
                add(Place::Header("authorization".into()), BEARER.into());
                add(Place::Param(ACCESS_TOKEN.into()), "".into());
            }
        }
        places
    }

    /// Every token of a request: in headers, then parameters, then cookies.
    pub fn tokens<R: RequestView + ?Sized>(&self, request: &R) -> Vec<Located<'_>> {
        let mut tokens = Vec::new();
        for at in self.found.keys() {
            let (place, prefix) = at;
            let mut add = |text: String| tokens.push(Located { place, text, at });
            match place {
                Place::Header(name) => request.visit_values(name, &mut |value| {
                    if let Some(text) = after_prefix(value, prefix) {
                        add(text);
                    }
                }),
                Place::Param(name) => {
                    if let Some(text) = param(request.path(), name) {
                        add(text);
                    }
                }
                Place::Cookie(name) => {
                    let mut first = None;
                    request.visit_values("cookie", &mut |value| {
                        first = first.take().or_else(|| cookie(value, name));
                    });
                    first.into_iter().for_each(&mut add);
                }
            }
        }
        tokens
    }

    /// Whether tokens of this issuer may stand where `located` does.
    pub fn believes(&self, located: &Located<'_>, issuer: &str) -> bool {
        self.found
            .get(located.at)
            .is_some_and(|issuers| issuers.any || issuers.named.iter().any(|one| &**one == issuer))
    }
}

/// What follows the prefix, wherever in the value that is, up to where no token can go on (as Envoy looks for it).
fn after_prefix(value: &[u8], prefix: &str) -> Option<String> {
    let value = String::from_utf8_lossy(value);
    if prefix.is_empty() {
        return Some(value.into_owned());
    }
    let rest = &value[value.find(prefix)? + prefix.len()..];
    let of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match rest.find(of_token) {
        Some(start) => Some(rest[start..].to_owned()),
        None => Some(value.into_owned()),
    }
}

/// The first parameter of this name in a path's query, decoded.
fn param(path: &str, name: &str) -> Option<String> {
    pairs(path)?.find(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value))
}

fn pairs(path: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let (_, query) = path.split_once('?')?;
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    Some(query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, ""))))
}

/// `path` without its parameters called `name`.
pub fn without_param(path: &str, name: &str) -> String {
    let Some((before, query)) = path.split_once('?') else { return path.to_owned() };
    let kept: Vec<&str> =
        query.split('&').filter(|pair| decoded(pair.split_once('=').map_or(pair, |(key, _)| key)) != name).collect();
    if kept.is_empty() { before.to_owned() } else { format!("{before}?{}", kept.join("&")) }
}

/// Percent-decoded (RFC 3986 §2.1); what is no valid escape stays.
fn decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let hex = |byte: u8| (byte as char).to_digit(16);
        match bytes.get(at..at + 3) {
            Some(&[b'%', high, low]) if hex(high).is_some() && hex(low).is_some() => {
                out.push((hex(high).unwrap_or(0) << 4 | hex(low).unwrap_or(0)) as u8);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A cookie's value in one `cookie` field (RFC 6265 §4.2).
fn cookie(field: &[u8], name: &str) -> Option<String> {
    let field = std::str::from_utf8(field).ok()?;
    field.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_may_stand_anywhere() {
        let table = [
            ("Bearer a.b.c", Some("a.b.c")),
            ("x Bearer  a.b.c", Some("a.b.c")),
            ("Bearer a.b.c, d", Some("a.b.c, d")),
            ("bearer a.b.c", None),
            ("Bearer ", Some("Bearer ")),
        ];
        for (value, expected) in table {
            assert_eq!(after_prefix(value.as_bytes(), BEARER).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn params_and_cookies_are_found_and_taken_away() {
        assert_eq!(param("/a?x=1&access%5ftoken=a%2eb&access_token=c#d", ACCESS_TOKEN).as_deref(), Some("a.b"));
        assert_eq!(param("/a?x=1", ACCESS_TOKEN), None);
        assert_eq!(without_param("/a?x=1&t=2&y&t=3", "t"), "/a?x=1&y");
        assert_eq!(without_param("/a?t=2", "t"), "/a");
        assert_eq!(cookie(b"a=1; session=\"t.o.k\" ; b=2", "session").as_deref(), Some("t.o.k"));
        assert_eq!(cookie(b"a=1; xsession=2", "session"), None);
    }
}
