//! Whose tokens are believed, and what becomes of a good one (`envoy.extensions.filters.http.jwt_authn.v3.JwtProvider`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tulle_core::Str;
use tulle_core::metadata::{Metadata, Struct, Value};
use tulle_policy::StringMatcher;

use crate::jwks::Jwks;
use crate::token::Token;

/// Where the filter leaves what it verified.
pub const METADATA: &str = "envoy.filters.http.jwt_authn";

/// `JwtProvider`.
#[derive(Debug)]
pub struct Provider {
    pub name: Str,
    /// `None` believes tokens whoever they say issued them.
    pub issuer: Option<Str>,
    pub audiences: Audiences,
    pub subjects: Option<StringMatcher>,
    /// A token must say when it expires, and that must be less than this ahead.
    pub lifetime: Lifetime,
    pub clock_skew: Duration,
    pub keys: KeySource,
    pub from_headers: Box<[(Str, Str)]>,
    pub from_params: Box<[Str]>,
    pub from_cookies: Box<[Str]>,
    pub output: Output,
}

/// How long a token may still be valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    #[default]
    Any,
    /// It must expire, some time.
    Limited,
    LessThan(Duration),
}

/// What of a good token is shown to later filters and to the upstream.
#[derive(Debug, Default)]
pub struct Output {
    /// The token itself stays in the request.
    pub forward: bool,
    pub payload_header: Option<Str>,
    /// The payload's base64url is padded in that header.
    pub pad_payload: bool,
    /// Key of the payload in metadata.
    pub payload_key: Option<Str>,
    /// Key of the token's header in metadata.
    pub header_key: Option<Str>,
    /// Claims of words between blanks, which become lists in metadata.
    pub space_delimited: Box<[Str]>,
    pub claim_headers: Box<[ClaimHeader]>,
    pub clear_route_cache: bool,
}

/// A claim that the upstream gets as a header.
#[derive(Debug)]
pub struct ClaimHeader {
    pub header: Str,
    pub path: Box<[Str]>,
}

/// Where keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    Local(Arc<Jwks>),
    Remote(Arc<RemoteKeys>),
}

/// A key server. Two providers with equal ones share what was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteKeys {
    pub authority: Str,
    pub path: Str,
    pub cluster: Str,
    pub timeout: Duration,
    /// How long fetched keys are good for.
    pub cache: Duration,
    /// After a fetch that failed.
    pub retry: Duration,
    /// More tries in one fetch.
    pub retries: u32,
}

/// Audiences of which a token must name one; none: any will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audiences(BTreeSet<String>);

impl Audiences {
    pub fn new<S: AsRef<str>>(written: impl IntoIterator<Item = S>) -> Audiences {
        Audiences(written.into_iter().map(|audience| bare(audience.as_ref()).to_owned()).collect())
    }

    pub fn allow(&self, named: &[String]) -> bool {
        self.0.is_empty() || named.iter().any(|audience| self.0.contains(bare(audience)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An audience without the scheme and the last slash of a URL, which Envoy does not count.
fn bare(audience: &str) -> &str {
    let rest = audience.strip_prefix("http://").or_else(|| audience.strip_prefix("https://")).unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}

impl Provider {
    pub fn issues(&self, issuer: &str) -> bool {
        self.issuer.as_deref().is_none_or(|own| own == issuer)
    }

    /// The headers that only this filter may set.
    pub fn own_headers(&self) -> impl Iterator<Item = &Str> {
        self.output.payload_header.iter().chain(self.output.claim_headers.iter().map(|each| &each.header))
    }
}

impl Output {
    /// The header fields that a good token brings.
    pub fn headers(&self, token: &Token<'_>) -> Vec<(Str, String)> {
        let mut made = Vec::new();
        if let Some(name) = &self.payload_header {
            let mut text = token.payload_text.to_owned();
            while self.pad_payload && !text.len().is_multiple_of(4) {
                text.push('=');
            }
            made.push((name.clone(), text));
        }
        for ClaimHeader { header, path } in &self.claim_headers {
            let text = lookup(&token.payload, path).and_then(header_text).filter(|text| !text.is_empty());
            made.extend(text.map(|text| (header.clone(), text)));
        }
        made
    }

    /// The metadata that a good token brings; `None` when nobody asked for any.
    pub fn metadata(&self, token: &Token<'_>) -> Option<Arc<Metadata>> {
        let mut fields = Struct::new();
        if let Some(key) = &self.header_key {
            fields.insert(key.clone(), Value::Struct(token.header.clone()));
        }
        if let Some(key) = &self.payload_key {
            let mut payload = token.payload.clone();
            for claim in &self.space_delimited {
                if let Some(value @ Value::String(_)) = payload.get_mut(claim) {
                    let words = value.as_str().unwrap_or_default().split(' ').filter(|word| !word.is_empty());
                    *value = Value::List(words.map(|word| Value::String(word.into())).collect());
                }
            }
            fields.insert(key.clone(), Value::Struct(payload));
        }
        let filters = [(METADATA.into(), fields)].into();
        (self.header_key.is_some() || self.payload_key.is_some()).then(|| Arc::new(Metadata { filters }))
    }
}

fn lookup<'p>(payload: &'p Struct, path: &[Str]) -> Option<&'p Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(payload.get(first)?, |value, key| value.as_struct()?.get(key))
}

/// A claim as a header's value: what is not a single value is base64 of its JSON.
fn header_text(claim: &Value) -> Option<String> {
    use base64::Engine as _;
    match claim {
        Value::Null => None,
        // A line break or another control character would be no header.
        Value::String(text) => (!text.bytes().any(|byte| byte < 0x20 || byte == 0x7f)).then(|| text.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) if *number >= 0.0 && number.fract() == 0.0 && *number < u64::MAX as f64 => {
            Some((*number as u64).to_string())
        }
        Value::Number(number) => Some(format!("{number:.6}")),
        Value::List(_) | Value::Struct(_) => {
            let text = json(claim).to_string();
            Some(base64::engine::general_purpose::STANDARD.encode(text))
        }
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < (1u64 << 53) as f64 => (*number as i64).into(),
        Value::Number(number) => (*number).into(),
        Value::String(text) => text.to_string().into(),
        Value::List(items) => items.iter().map(json).collect::<Vec<_>>().into(),
        Value::Struct(fields) => {
            serde_json::Value::Object(fields.iter().map(|(name, value)| (name.to_string(), json(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_compared_without_scheme_and_slash() {
        let wanted = Audiences::new(["https://shop.example/", "plain"]);
        let named = |audience: &str| wanted.allow(&[audience.to_owned()]);
        assert!(named("shop.example") && named("http://shop.example") && named("plain"));
        assert!(!named("shop.example/x") && !named("") && !wanted.allow(&[]));
        assert!(Audiences::default().allow(&[]));
    }

    #[test]
    fn claims_become_header_values() {
        let table = [
            (Value::String("bob".into()), Some("bob")),
            (Value::String("a\r\nb: c".into()), None),
            (Value::Bool(true), Some("true")),
            (Value::Number(7.0), Some("7")),
            (Value::Number(-1.5), Some("-1.500000")),
            (Value::Null, None),
            (Value::List(vec![Value::Number(1.0)]), Some("WzFd")),
        ];
        for (claim, expected) in table {
            assert_eq!(header_text(&claim).as_deref(), expected, "{claim:?}");
        }
    }
}
