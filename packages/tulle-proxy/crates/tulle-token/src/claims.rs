//! JSON objects of tokens as metadata, read without a detour; and the claims that RFC 7519 gives a meaning.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use tulle_core::metadata::{Struct, Value};

use crate::failure::Failure;

/// Reads a JSON object; `None` for anything else, for more than 127 levels, and for a name that occurs twice in an
/// object: two readers could take different values from it (RFC 7519 §4).
pub fn object(json: &[u8]) -> Option<Struct> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Any.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    match value {
        Value::Struct(fields) => Some(fields),
        _ => None,
    }
}

struct Any;

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.into()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Any)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut fields = Struct::new();
        while let Some(name) = items.next_key::<String>()? {
            let value = items.next_value_seed(Any)?;
            if fields.insert(name.into(), value).is_some() {
                return Err(A::Error::custom("a name occurs twice"));
            }
        }
        Ok(Value::Struct(fields))
    }
}

/// The registered claims (RFC 7519 §4.1); times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    pub issuer: String,
    pub subject: String,
    pub audiences: Vec<String>,
    pub expires: Option<u64>,
    pub not_before: u64,
}

/// The registered claims of a payload.
///
/// # Errors
/// The first claim that is of a wrong kind.
pub fn registered(payload: &Struct) -> Result<Registered, Failure> {
    let issuer = text(payload, "iss")?;
    let subject = text(payload, "sub")?;
    time(payload, "iat")?;
    let not_before = time(payload, "nbf")?.unwrap_or(0);
    let expires = time(payload, "exp")?;
    text(payload, "jti")?;
    let audiences = match payload.get("aud") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one.to_string()],
        Some(Value::List(items)) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or(Failure::Audience)?
        }
        Some(_) => return Err(Failure::Audience),
    };
    Ok(Registered { issuer, subject, audiences, expires, not_before })
}

fn text(payload: &Struct, name: &'static str) -> Result<String, Failure> {
    match payload.get(name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.to_string()),
        Some(_) => Err(Failure::NotString(name)),
    }
}

fn time(payload: &Struct, name: &'static str) -> Result<Option<u64>, Failure> {
    match payload.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) if *number >= 0.0 && *number < u64::MAX as f64 => Ok(Some(*number as u64)),
        Some(Value::Number(_)) => Err(Failure::OutOfRange(name)),
        Some(_) => Err(Failure::NotInteger(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubtful_objects_are_refused() {
        let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(object(deep(100).as_bytes()).is_some());
        assert!(object(deep(100_000).as_bytes()).is_none());
        for bad in ["[]", "1", "", "{\"a\":1,\"a\":2}", "{\"x\":{\"a\":1,\"a\":1}}", "{} {}", "{\"a\":\"\u{1}\"}"] {
            assert!(object(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
        assert!(object(b" {\"a\": {\"b\": [null, true, 1.5, \"c\"]}} ").is_some());
    }

    #[test]
    fn registered_claims_have_their_kinds() {
        let of = |json: &str| registered(&object(json.as_bytes()).unwrap());
        assert_eq!(of("{\"sub\": 7}"), Err(Failure::NotString("sub")));
        assert_eq!(of("{\"iss\": null}"), Err(Failure::NotString("iss")));
        assert_eq!(of("{\"exp\": \"7\"}"), Err(Failure::NotInteger("exp")));
        assert_eq!(of("{\"nbf\": -1}"), Err(Failure::OutOfRange("nbf")));
        assert_eq!(of("{\"iat\": 1e300}"), Err(Failure::OutOfRange("iat")));
        assert_eq!(of("{\"aud\": [1]}"), Err(Failure::Audience));
        let good = of("{\"iss\":\"i\",\"sub\":\"s\",\"aud\":[\"a\",\"b\"],\"exp\":9,\"nbf\":8}").unwrap();
        assert_eq!((good.expires, good.not_before, good.audiences.len()), (Some(9), 8, 2));
    }
}
