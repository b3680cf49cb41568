//! The compact form of a token (RFC 7515 §7.1), taken apart but not believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tulle_core::metadata::{Struct, Value};

use crate::claims::{self, Registered};
use crate::failure::Failure;

/// A longer token is refused unread, in bytes: more than any header that a connection manager takes by default.
pub const LONGEST: usize = 64 * 1024;

/// Signature algorithms (RFC 7518 §3.1, RFC 8037). `none` is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alg {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Alg {
    pub fn named(name: &str) -> Option<Alg> {
        Some(match name {
            "HS256" => Alg::Hs256,
            "HS384" => Alg::Hs384,
            "HS512" => Alg::Hs512,
            "RS256" => Alg::Rs256,
            "RS384" => Alg::Rs384,
            "RS512" => Alg::Rs512,
            "PS256" => Alg::Ps256,
            "PS384" => Alg::Ps384,
            "PS512" => Alg::Ps512,
            "ES256" => Alg::Es256,
            "ES384" => Alg::Es384,
            "ES512" => Alg::Es512,
            "EdDSA" => Alg::EdDsa,
            _ => return None,
        })
    }
}

/// A token whose signature has not been looked at.
#[derive(Clone, Debug)]
pub struct Token<'t> {
    pub alg: Alg,
    /// Empty: any key.
    pub key_id: String,
    pub header: Struct,
    pub payload: Struct,
    pub registered: Registered,
    /// The payload as it stands in the token.
    pub payload_text: &'t str,
    /// What is signed.
    pub signed: &'t str,
    pub signature: Vec<u8>,
}

impl<'t> Token<'t> {
    /// Takes a token apart, in the order in which Envoy does, so that the same thing is found wrong first.
    ///
    /// # Errors
    /// What is malformed.
    pub fn parse(text: &'t str) -> Result<Token<'t>, Failure> {
        if text.len() > LONGEST {
            return Err(Failure::TooLarge);
        }
        let mut parts = text.split('.');
        let (Some(head), Some(body), Some(tail), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Failure::Form);
        };
        let header = URL_SAFE_NO_PAD.decode(head).map_err(|_| Failure::HeaderBase64)?;
        let header = claims::object(&header).ok_or(Failure::HeaderJson)?;
        let alg = header.get("alg").and_then(Value::as_str).ok_or(Failure::HeaderAlg)?;
        let alg = Alg::named(alg).ok_or(Failure::UnknownAlg)?;
        let key_id = match header.get("kid") {
            None => String::new(),
            Some(Value::String(id)) => id.to_string(),
            Some(_) => return Err(Failure::HeaderKid),
        };
        // RFC 7515 §4.1.11: what must be understood and is not makes the token invalid.
        if header.contains_key("crit") {
            return Err(Failure::Critical);
        }
        let payload = URL_SAFE_NO_PAD.decode(body).map_err(|_| Failure::PayloadBase64)?;
        let payload = claims::object(&payload).ok_or(Failure::PayloadJson)?;
        let registered = claims::registered(&payload)?;
        let signature = URL_SAFE_NO_PAD.decode(tail).map_err(|_| Failure::SignatureBase64)?;
        let signed = &text[..head.len() + 1 + body.len()];
        Ok(Token { alg, key_id, header, payload, registered, payload_text: body, signed, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn malformed_tokens_are_named() {
        let good = "{\"alg\":\"ES256\"}";
        let table = [
            (String::new(), Failure::Form),
            ("a.b".to_owned(), Failure::Form),
            ("a.b.c.d".to_owned(), Failure::Form),
            ("?.b.c".to_owned(), Failure::HeaderBase64),
            ("e30=.e30.c2ln".to_owned(), Failure::HeaderBase64),
            (encoded("[]", "{}"), Failure::HeaderJson),
            (encoded("{}", "{}"), Failure::HeaderAlg),
            (encoded("{\"alg\":\"none\"}", "{}"), Failure::UnknownAlg),
            (encoded("{\"alg\":\"None\"}", "{}"), Failure::UnknownAlg),
            (encoded("{\"alg\":\"ES256\",\"kid\":1}", "{}"), Failure::HeaderKid),
            (encoded("{\"alg\":\"ES256\",\"crit\":[\"b64\"]}", "{}"), Failure::Critical),
            (encoded(good, "x"), Failure::PayloadJson),
            (format!("{}!", encoded(good, "{}")), Failure::SignatureBase64),
            ("a".repeat(LONGEST + 1), Failure::TooLarge),
        ];
        for (text, expected) in table {
            assert_eq!(Token::parse(&text).unwrap_err(), expected, "{}", &text[..text.len().min(80)]);
        }
        let text = encoded(good, "{\"iss\":\"me\"}");
        let token = Token::parse(&text).unwrap();
        assert_eq!((token.alg, token.registered.issuer.as_str()), (Alg::Es256, "me"));
        assert!(text.starts_with(token.signed) && token.signature == b"sig");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in ".{0,200}", head in "[A-Za-z0-9_-]{0,40}", body in "[A-Za-z0-9_-]{0,40}") {
            let _any = Token::parse(&text);
            let _other = Token::parse(&format!("{head}.{body}."));
        }
    }
}
