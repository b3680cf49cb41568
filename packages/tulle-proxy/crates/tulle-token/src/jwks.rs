//! Sets of keys (RFC 7517) and signatures checked with them.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tulle_core::metadata::{Struct, Value};

use crate::claims;
use crate::failure::Failure;
use crate::token::{Alg, Token};

/// A longer set is refused, in bytes.
pub const LARGEST: usize = 1 << 20;
/// RSA moduli of fewer bits are no longer safe (NIST SP 800-131A), and longer ones cost too much to check.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a text is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    #[error("is longer than 1 MiB")]
    TooLarge,
    #[error("is not a JSON object (or says something twice)")]
    Json,
    #[error("has no list of keys under \"keys\"")]
    NoKeys,
    #[error("has no key that can be used: RSA from 2048 bits on, EC of P-256, P-384 or P-521, Ed25519, or oct")]
    NoneUsable,
}

/// The keys of one issuer.
#[derive(Debug)]
pub struct Jwks {
    keys: Box<[Key]>,
}

#[derive(Debug)]
struct Key {
    /// Empty: fits every token.
    id: String,
    /// The only algorithm it is for, where the set says one.
    alg: Option<Alg>,
    material: Material,
}

/// What kind of key it is decides which algorithms it can check, whatever a token's header says.
enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Ec { alg: Alg, key: ParsedPublicKey },
    Ed25519(ParsedPublicKey),
    Shared(Vec<u8>),
}

impl std::fmt::Debug for Material {
    /// Never the key itself: it may be a shared secret.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Material::Rsa { .. } => "RSA",
            Material::Ec { .. } => "EC",
            Material::Ed25519(_) => "Ed25519",
            Material::Shared(_) => "oct",
        })
    }
}

impl Jwks {
    /// Reads a set; keys of unknown kinds, for encryption, or malformed are left out (RFC 7517 §5).
    ///
    /// # Errors
    /// When there is no key that could ever check a signature.
    pub fn parse(text: &[u8]) -> Result<Jwks, KeysError> {
        if text.len() > LARGEST {
            return Err(KeysError::TooLarge);
        }
        let set = claims::object(text).ok_or(KeysError::Json)?;
        let keys = set.get("keys").and_then(Value::as_list).ok_or(KeysError::NoKeys)?;
        let keys: Box<[Key]> = keys.iter().filter_map(Value::as_struct).filter_map(key).collect();
        if keys.is_empty() { Err(KeysError::NoneUsable) } else { Ok(Jwks { keys }) }
    }

    /// Checks a token's signature with every key that fits it.
    ///
    /// # Errors
    /// When no key fits, or none of those that do made the signature.
    pub fn verify(&self, token: &Token<'_>) -> Result<(), Failure> {
        let fits = |key: &&Key| {
            (token.key_id.is_empty() || key.id.is_empty() || key.id == token.key_id)
                && key.alg.is_none_or(|only| only == token.alg)
        };
        let mut found = Err(Failure::NoSuchKey);
        for key in self.keys.iter().filter(fits) {
            if key.material.signed(token) {
                return Ok(());
            }
            found = Err(Failure::Verification);
        }
        found
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn key(fields: &Struct) -> Option<Key> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    let material = match text("kty")? {
        "RSA" => rsa(bytes(fields, "n")?, bytes(fields, "e")?)?,
        "EC" => ec(text("crv")?, &bytes(fields, "x")?, &bytes(fields, "y")?)?,
        "OKP" if text("crv")? == "Ed25519" => Material::Ed25519(parsed(&signature::ED25519, &bytes(fields, "x")?)?),
        "oct" => Material::Shared(bytes(fields, "k").filter(|secret| !secret.is_empty())?),
        _ => return None,
    };
    let alg = match text("alg").filter(|alg| !alg.is_empty()) {
        Some(name) => Some(Alg::named(name)?),
        None => None,
    };
    Some(Key { id: text("kid").unwrap_or_default().to_owned(), alg, material })
}

/// Base64url, with or without padding: key servers differ.
fn bytes(fields: &Struct, name: &str) -> Option<Vec<u8>> {
    let text = fields.get(name).and_then(Value::as_str)?;
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

fn rsa(modulus: Vec<u8>, exponent: Vec<u8>) -> Option<Material> {
    let strip = |number: Vec<u8>| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number[zeros..].to_vec()
    };
    let (modulus, exponent) = (strip(modulus), strip(exponent));
    let bits = modulus.len() * 8 - modulus.first()?.leading_zeros() as usize;
    let odd = exponent.last().is_some_and(|last| last % 2 == 1) && exponent.len() <= 8 && exponent != [1];
    (RSA_BITS.contains(&bits) && odd).then_some(Material::Rsa { modulus, exponent })
}

fn ec(curve: &str, x: &[u8], y: &[u8]) -> Option<Material> {
    let (alg, length): (Alg, usize) = match curve {
        "P-256" => (Alg::Es256, 32),
        "P-384" => (Alg::Es384, 48),
        "P-521" => (Alg::Es512, 66),
        _ => return None,
    };
    let mut point = vec![4];
    for coordinate in [x, y] {
        let zeros = length.checked_sub(coordinate.len()).filter(|_| !coordinate.is_empty());
        point.resize(point.len() + zeros?, 0);
        point.extend_from_slice(coordinate);
    }
    let verification: &'static signature::EcdsaVerificationAlgorithm = match alg {
        Alg::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Alg::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        _ => &signature::ECDSA_P521_SHA512_FIXED,
    };
    Some(Material::Ec { alg, key: parsed(verification, &point)? })
}

/// A key that is a valid one of its kind: a point that is on its curve.
fn parsed(algorithm: &'static dyn VerificationAlgorithm, key: &[u8]) -> Option<ParsedPublicKey> {
    ParsedPublicKey::new(algorithm, key).ok()
}

impl Material {
    /// Whether this key made the token's signature. False for every algorithm that is not of the key's kind.
    fn signed(&self, token: &Token<'_>) -> bool {
        let (message, signature) = (token.signed.as_bytes(), token.signature.as_slice());
        match (self, token.alg) {
            (Material::Rsa { modulus, exponent }, alg) => {
                let Some(parameters) = rsa_parameters(alg) else { return false };
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, message, signature).is_ok()
            }
            (Material::Ec { alg, key }, wanted) => *alg == wanted && key.verify_sig(message, signature).is_ok(),
            (Material::Ed25519(key), Alg::EdDsa) => key.verify_sig(message, signature).is_ok(),
            (Material::Shared(secret), alg) => {
                let Some(algorithm) = hmac_algorithm(alg) else { return false };
                hmac::verify(&hmac::Key::new(algorithm, secret), message, signature).is_ok()
            }
            _ => false,
        }
    }
}

fn rsa_parameters(alg: Alg) -> Option<&'static signature::RsaParameters> {
    Some(match alg {
        Alg::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Alg::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Alg::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Alg::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Alg::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Alg::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn hmac_algorithm(alg: Alg) -> Option<hmac::Algorithm> {
    Some(match alg {
        Alg::Hs256 => hmac::HMAC_SHA256,
        Alg::Hs384 => hmac::HMAC_SHA384,
        Alg::Hs512 => hmac::HMAC_SHA512,
        _ => return None,
    })
}
