//! JSON Web Tokens and key sets: nothing but the one token that was signed is ever believed.

use std::sync::OnceLock;

use tulle_token::token::Token;
use tulle_token::{Jwks, claims};

/// A shared secret and an RSA key; the corpus has one token that the secret has signed.
const KEYS: &[u8] = include_bytes!("../corpus/jwks/keys.json");
const SIGNED: &[u8] = include_bytes!("../corpus/jwt/signed.txt");

pub fn jwt(data: &[u8]) {
    static KNOWN: OnceLock<(Jwks, &'static str)> = OnceLock::new();
    let (keys, signed) = KNOWN.get_or_init(|| {
        let keys = Jwks::parse(KEYS).expect("the key set is well-formed");
        let text = std::str::from_utf8(SIGNED).expect("a token is text");
        let token = Token::parse(text).expect("the signed token is well-formed");
        assert_eq!(keys.verify(&token), Ok(()));
        (keys, token.signed)
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(token) = Token::parse(text) else { return };
    assert!(text.starts_with(token.signed) && token.signed.contains(token.payload_text));
    assert!(keys.verify(&token).is_err() || token.signed == *signed, "a forged token is believed");
}

pub fn jwks(data: &[u8]) {
    if let Some(object) = claims::object(data) {
        let theirs: serde_json::Value = serde_json::from_slice(data).expect("another reader takes it, too");
        let theirs = theirs.as_object().expect("an object");
        assert_eq!(theirs.len(), object.len());
        assert!(object.keys().all(|name| theirs.contains_key(&**name)));
    }
    if let Ok(keys) = Jwks::parse(data) {
        assert!(!keys.is_empty());
    }
}
