//! Signatures of every algorithm, attacks on them, and requirements asked of requests.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, KeyPair as _};
use aws_lc_rs::{hmac, rsa};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tulle_core::{Headers, RequestView, Str};
use tulle_token::provider::{ClaimHeader, Lifetime, Output};
use tulle_token::requirement::Providers;
use tulle_token::token::Token;
use tulle_token::{
    Audiences, Cache, Check, Failure, Good, Jwks, KeySource, KeyState, Keys, Provider, Requirement, Wanted,
};

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(header: &str, payload: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{}", b64(header), b64(payload));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", b64(signature))
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key of some kind: its entry in a set, and how it signs.
struct Signer {
    alg: &'static str,
    jwk: String,
    sign: Sign,
}

fn ecdsa(alg: &'static str, curve: &str, algorithm: &'static signature::EcdsaSigningAlgorithm) -> Signer {
    let pair = signature::EcdsaKeyPair::generate(algorithm).unwrap();
    let point = pair.public_key().as_ref()[1..].to_vec();
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = format!(r#"{{"kty":"EC","crv":"{curve}","kid":"{alg}","x":"{}","y":"{}"}}"#, b64(x), b64(y));
    let sign = move |text: &[u8]| pair.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec();
    Signer { alg, jwk, sign: Box::new(sign) }
}

fn rsa_signers() -> Vec<Signer> {
    let pair = Arc::new(rsa::KeyPair::generate(KeySize::Rsa2048).unwrap());
    // SEQUENCE of two INTEGERs (RFC 8017 §A.1.1), whose lengths are those of a 2048-bit modulus and of 65537.
    let der = pair.public_key().as_ref().to_vec();
    let (modulus, exponent) = (&der[9..265], &der[267..270]);
    let algorithms: [(&str, &'static dyn signature::RsaEncoding); 6] = [
        ("RS256", &signature::RSA_PKCS1_SHA256),
        ("RS384", &signature::RSA_PKCS1_SHA384),
        ("RS512", &signature::RSA_PKCS1_SHA512),
        ("PS256", &signature::RSA_PSS_SHA256),
        ("PS384", &signature::RSA_PSS_SHA384),
        ("PS512", &signature::RSA_PSS_SHA512),
    ];
    let mut made = Vec::new();
    for (alg, encoding) in algorithms {
        let pair = pair.clone();
        let sign = move |text: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(encoding, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        };
        let jwk = format!(r#"{{"kty":"RSA","kid":"rsa","n":"{}","e":"{}"}}"#, b64(modulus), b64(exponent));
        made.push(Signer { alg, jwk, sign: Box::new(sign) });
    }
    made
}

fn shared(alg: &'static str, algorithm: hmac::Algorithm) -> Signer {
    let secret = [7; 64];
    let jwk = format!(r#"{{"kty":"oct","k":"{}"}}"#, b64(secret));
    let sign = move |text: &[u8]| hmac::sign(&hmac::Key::new(algorithm, &secret), text).as_ref().to_vec();
    Signer { alg, jwk, sign: Box::new(sign) }
}

fn edwards() -> Signer {
    let pair = signature::Ed25519KeyPair::generate().unwrap();
    let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, b64(pair.public_key().as_ref()));
    Signer { alg: "EdDSA", jwk, sign: Box::new(move |text| pair.sign(text).as_ref().to_vec()) }
}

fn signers() -> Vec<Signer> {
    let mut all = rsa_signers();
    all.push(ecdsa("ES256", "P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING));
    all.push(ecdsa("ES384", "P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING));
    all.push(ecdsa("ES512", "P-521", &signature::ECDSA_P521_SHA512_FIXED_SIGNING));
    all.push(edwards());
    all.push(shared("HS256", hmac::HMAC_SHA256));
    all.push(shared("HS384", hmac::HMAC_SHA384));
    all.push(shared("HS512", hmac::HMAC_SHA512));
    all
}

fn set(jwk: &str) -> Jwks {
    Jwks::parse(format!("{{\"keys\":[{jwk}]}}").as_bytes()).unwrap()
}

#[test]
fn every_algorithm_verifies_and_no_other_key_does() {
    let all = signers();
    for signer in &all {
        let text = signed(&format!("{{\"alg\":\"{}\"}}", signer.alg), "{}", &signer.sign);
        let token = Token::parse(&text).unwrap();
        assert_eq!(set(&signer.jwk).verify(&token), Ok(()), "{}", signer.alg);
        for other in all.iter().filter(|other| other.jwk != signer.jwk) {
            assert_eq!(set(&other.jwk).verify(&token), Err(Failure::Verification), "{} by {}", signer.alg, other.alg);
        }
        let mut forged = token.clone();
        forged.signature[0] ^= 1;
        assert_eq!(set(&signer.jwk).verify(&forged), Err(Failure::Verification), "{}", signer.alg);
        let text = signed(&format!("{{\"alg\":\"{}\"}}", signer.alg), "{\"sub\":\"x\"}", |_| token.signature.clone());
        assert_eq!(set(&signer.jwk).verify(&Token::parse(&text).unwrap()), Err(Failure::Verification));
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    for signer in
        rsa_signers().into_iter().chain([ecdsa("ES256", "P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING)])
    {
        let keys = set(&signer.jwk);
        // What an attacker knows: the set as served, and each number in it.
        for secret in [signer.jwk.clone().into_bytes(), b64(&signer.jwk).into_bytes()] {
            for (alg, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS512", hmac::HMAC_SHA512)] {
                let text = signed(&format!("{{\"alg\":\"{alg}\"}}"), "{}", |text| {
                    hmac::sign(&hmac::Key::new(algorithm, &secret), text).as_ref().to_vec()
                });
                assert_eq!(keys.verify(&Token::parse(&text).unwrap()), Err(Failure::Verification));
            }
        }
    }
}

#[test]
fn key_ids_and_algorithms_choose_keys() {
    let signer = ecdsa("ES256", "P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING);
    let token = |header: &str| signed(header, "{}", &signer.sign);
    let verify = |keys: &Jwks, header: &str| keys.verify(&Token::parse(&token(header)).unwrap());
    let keys = set(&signer.jwk);
    assert_eq!(verify(&keys, "{\"alg\":\"ES256\",\"kid\":\"ES256\"}"), Ok(()));
    assert_eq!(verify(&keys, "{\"alg\":\"ES256\"}"), Ok(()));
    assert_eq!(verify(&keys, "{\"alg\":\"ES256\",\"kid\":\"other\"}"), Err(Failure::NoSuchKey));
    let only = set(&signer.jwk.replace("\"kty\"", "\"alg\":\"ES256\",\"kty\""));
    assert_eq!(verify(&only, "{\"alg\":\"ES256\"}"), Ok(()));
    assert_eq!(verify(&only, "{\"alg\":\"RS256\"}"), Err(Failure::NoSuchKey));
}

#[test]
fn unusable_keys_are_left_out_and_no_key_is_an_error() {
    let good = edwards().jwk;
    let small = format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, b64([0xff; 128]));
    let even = format!(r#"{{"kty":"RSA","n":"{}","e":"Ag"}}"#, b64([0xff; 256]));
    let off_curve = format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, b64([1; 32]), b64([2; 32]));
    let bad = [
        &*small,
        &even,
        &off_curve,
        r#"{"kty":"oct","k":""}"#,
        r#"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#,
        r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#,
        r#"{"kty":"none"}"#,
        r#"{"use":"enc","kty":"oct","k":"AAAA"}"#,
        r#"{"alg":"none","kty":"oct","k":"AAAA"}"#,
        "7",
    ];
    for jwk in bad {
        assert!(Jwks::parse(format!("{{\"keys\":[{jwk}]}}").as_bytes()).is_err(), "{jwk}");
        assert_eq!(Jwks::parse(format!("{{\"keys\":[{jwk},{good}]}}").as_bytes()).unwrap().len(), 1);
    }
    for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}"] {
        assert!(Jwks::parse(text.as_bytes()).is_err(), "{text}");
    }
    let huge = format!("{{\"keys\":[{good}], \"x\":\"{}\"}}", "a".repeat(1 << 20));
    assert!(Jwks::parse(huge.as_bytes()).is_err());
    assert!(!format!("{:?}", set(&shared("HS256", hmac::HMAC_SHA256).jwk)).contains(&b64([7; 64])));
}

struct Request {
    path: &'static str,
    headers: Vec<(&'static str, String)>,
}

impl Headers for Request {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes())
    }

    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(key, _)| *key == name).for_each(|(_, value)| visit(value.as_bytes()));
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.headers.iter().for_each(|(key, value)| visit(key.as_bytes(), value.as_bytes()));
    }
}

impl RequestView for Request {
    fn method(&self) -> &str {
        "GET"
    }

    fn authority(&self) -> &str {
        "shop"
    }

    fn path(&self) -> &str {
        self.path
    }

    fn scheme(&self) -> &str {
        "http"
    }
}

/// Every provider's keys are the local ones.
struct Local;

impl Keys for Local {
    fn of(&self, provider: &Provider) -> KeyState {
        match &provider.keys {
            KeySource::Local(keys) => KeyState::Ready(keys.clone()),
            KeySource::Remote(_) => KeyState::Unavailable,
        }
    }
}

fn provider(name: &str, issuer: Option<&str>, keys: Jwks) -> Provider {
    Provider {
        name: name.into(),
        issuer: issuer.map(Str::from),
        audiences: Audiences::default(),
        subjects: None,
        lifetime: Lifetime::Any,
        clock_skew: Duration::from_secs(60),
        keys: KeySource::Local(Arc::new(keys)),
        from_headers: Box::default(),
        from_params: Box::default(),
        from_cookies: Box::default(),
        output: Output { payload_key: Some("payload".into()), ..Output::default() },
    }
}

const NOW: u64 = 1_000_000;

fn ask(requirement: &Requirement, path: &'static str, headers: &[(&'static str, &str)]) -> Result<Vec<Good>, Failure> {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let mut cache = Cache::default();
    let request = Request { path, headers };
    Check { request: &request, keys: &Local, cache: &mut cache, now: NOW }.ask(requirement)
}

/// Providers `one` and `two` with keys of their own, and how each signs a payload.
struct Two {
    providers: Providers,
    signers: [Signer; 2],
}

impl Two {
    fn new(change: impl Fn(&mut Provider)) -> Two {
        let signers = [edwards(), ecdsa("ES256", "P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING)];
        let mut providers = Providers::new();
        for (name, signer) in ["one", "two"].into_iter().zip(&signers) {
            let mut made = provider(name, Some(name), set(&signer.jwk));
            change(&mut made);
            providers.insert(name.into(), Arc::new(made));
        }
        Two { providers, signers }
    }

    fn token(&self, index: usize, payload: &str) -> String {
        let signer = &self.signers[index];
        signed(&format!("{{\"alg\":\"{}\"}}", signer.alg), payload, &signer.sign)
    }

    fn requirement(&self, wanted: Wanted) -> Requirement {
        Requirement::new(&wanted, &self.providers).unwrap()
    }
}

fn named(name: &str) -> Wanted {
    Wanted::Provider { name: name.into(), audiences: None }
}

#[test]
fn requirements_hold_as_envoy_reads_them() {
    let two = Two::new(|_| {});
    let one = format!("Bearer {}", two.token(0, r#"{"iss":"one"}"#));
    let other = format!("Bearer {}", two.token(1, r#"{"iss":"two"}"#));
    let forged = format!("Bearer {}", two.token(1, r#"{"iss":"one"}"#));
    let stranger = format!("Bearer {}", two.token(1, r#"{"iss":"three"}"#));
    let auth = |token: &str| ask_with(&two, token);
    fn ask_with(two: &Two, token: &str) -> impl Fn(Wanted) -> Result<usize, Failure> + use<> {
        let headers: Vec<(&'static str, String)> =
            if token.is_empty() { Vec::new() } else { vec![("authorization", token.to_owned())] };
        let providers = two.providers.clone();
        move |wanted| {
            let requirement = Requirement::new(&wanted, &providers).unwrap();
            let request = Request { path: "/", headers: headers.clone() };
            let mut cache = Cache::default();
            Check { request: &request, keys: &Local, cache: &mut cache, now: NOW }
                .ask(&requirement)
                .map(|good| good.len())
        }
    }
    assert_eq!(auth("")(named("one")), Err(Failure::Missing));
    assert_eq!(auth(&one)(named("one")), Ok(1));
    assert_eq!(auth(&other)(named("one")), Err(Failure::UnknownIssuer));
    assert_eq!(auth(&forged)(named("one")), Err(Failure::Verification));
    let either = || Wanted::Any(vec![named("one"), named("two")]);
    assert_eq!((auth(&one)(either()), auth(&other)(either())), (Ok(1), Ok(1)));
    assert_eq!(auth(&forged)(either()), Err(Failure::Verification));
    let both = || Wanted::All(vec![named("one"), named("two")]);
    assert_eq!(auth(&one)(both()), Err(Failure::UnknownIssuer));
    let optional = || Wanted::Any(vec![named("one"), named("two"), Wanted::AllowMissing]);
    assert_eq!((auth("")(optional()), auth(&other)(optional())), (Ok(0), Ok(1)));
    assert_eq!(auth(&forged)(optional()), Err(Failure::Verification));
    assert_eq!(auth(&stranger)(optional()), Err(Failure::UnknownIssuer));
    assert_eq!(auth("Bearer x")(optional()), Err(Failure::Form));
    let lenient = || Wanted::Any(vec![named("one"), Wanted::AllowMissingOrFailed]);
    assert_eq!((auth(&forged)(lenient()), auth(&one)(lenient())), (Ok(0), Ok(1)));
    assert_eq!(auth(&forged)(Wanted::AllowMissing), Err(Failure::Verification));
    assert!(Requirement::new(&named("none"), &two.providers).is_err());
}

#[test]
fn every_token_that_an_upstream_might_read_must_be_good() {
    let two = Two::new(|_| {});
    let good = format!("Bearer {}", two.token(0, r#"{"iss":"one"}"#));
    let forged = format!("Bearer {}", two.token(1, r#"{"iss":"one"}"#));
    for wanted in [named("one"), Wanted::AllowMissing] {
        let requirement = two.requirement(wanted);
        for headers in [
            [("authorization", &*good), ("authorization", &*forged)],
            [("authorization", &forged), ("authorization", &good)],
        ] {
            assert_eq!(ask(&requirement, "/", &headers).unwrap_err(), Failure::Verification);
        }
        assert_eq!(ask(&requirement, "/?access_token=x", &[("authorization", &good)]).unwrap_err(), Failure::Form);
    }
}

#[test]
fn times_audiences_and_subjects_are_held_to() {
    let two = Two::new(|provider| {
        provider.audiences = Audiences::new(["shop"]);
        provider.lifetime = Lifetime::LessThan(Duration::from_secs(1000));
        provider.subjects = Some(tulle_policy::StringMatcher::exact("bob"));
    });
    let requirement = two.requirement(named("one"));
    let of = |claims: &str| {
        let token = two.token(0, &format!("{{\"iss\":\"one\",{claims}}}"));
        ask(&requirement, "/", &[("authorization", &format!("Bearer {token}"))]).map(|good| good.len())
    };
    let exp = |offset: i64| format!("\"sub\":\"bob\",\"aud\":[\"x\",\"shop\"],\"exp\":{}", NOW as i64 + offset);
    assert_eq!(of(&exp(10)), Ok(1));
    assert_eq!(of(&exp(-60)), Ok(1), "within the skew");
    assert_eq!(of(&exp(-61)), Err(Failure::Expired));
    assert_eq!(of(&exp(1000)), Err(Failure::Verification), "lives too long");
    assert_eq!(of("\"sub\":\"bob\",\"aud\":\"shop\""), Err(Failure::Verification), "never expires");
    assert_eq!(of(&format!("{},\"nbf\":{}", exp(10), NOW + 61)), Err(Failure::NotYetValid));
    assert_eq!(of(&format!("{},\"nbf\":{}", exp(10), NOW + 60)), Ok(1));
    assert_eq!(of(&exp(10).replace("shop", "other")), Err(Failure::AudienceNotAllowed));
    assert_eq!(of(&exp(10).replace("bob", "eve")), Err(Failure::Verification));
    let own = two.requirement(Wanted::Provider { name: "one".into(), audiences: Some(Audiences::new(["other"])) });
    let token =
        format!("Bearer {}", two.token(0, &format!("{{\"iss\":\"one\",{}}}", exp(10).replace("shop", "other"))));
    assert!(ask(&own, "/", &[("authorization", &token)]).is_ok());
}

#[test]
fn a_good_token_brings_headers_and_metadata() {
    let two = Two::new(|provider| {
        provider.output = Output {
            payload_header: Some("x-payload".into()),
            pad_payload: true,
            payload_key: Some("payload".into()),
            header_key: Some("header".into()),
            space_delimited: Box::new(["scope".into()]),
            claim_headers: Box::new([ClaimHeader {
                header: "x-team".into(),
                path: Box::new(["org".into(), "team".into()]),
            }]),
            ..Output::default()
        };
    });
    let token = two.token(0, r#"{"iss":"one","scope":"a b","org":{"team":"red"}}"#);
    let good = ask(&two.requirement(named("one")), "/", &[("authorization", &format!("Bearer {token}"))]).unwrap();
    let headers: Vec<(&str, &str)> =
        good[0].accepted.headers.iter().map(|(name, value)| (&**name, value.as_str())).collect();
    assert_eq!(headers[1], ("x-team", "red"));
    assert!(headers[0].1.len().is_multiple_of(4) && headers[0].1.starts_with(token.split('.').nth(1).unwrap()));
    let metadata = good[0].accepted.metadata.as_ref().unwrap();
    let at = |path: &[&str]| {
        let path: Vec<Str> = path.iter().map(|key| Str::from(*key)).collect();
        metadata.lookup("envoy.filters.http.jwt_authn", &path).cloned()
    };
    assert_eq!(at(&["payload", "scope"]).unwrap().as_list().unwrap().len(), 2);
    assert_eq!(at(&["header", "alg"]).unwrap().as_str(), Some("EdDSA"));
}

#[test]
fn repeated_tokens_cost_no_signature_and_new_keys_are_asked_anew() {
    let signer = edwards();
    let keys = Arc::new(set(&signer.jwk));
    let made =
        Arc::new(Provider { keys: KeySource::Local(keys.clone()), ..provider("one", Some("one"), set(&signer.jwk)) });
    let providers = Providers::from([("one".into(), made.clone())]);
    let requirement = Requirement::new(&named("one"), &providers).unwrap();
    let mut cache = Cache::default();
    let mut ask = |subject: usize, keys: &dyn Keys, now: u64| {
        let payload = format!("{{\"iss\":\"one\",\"sub\":\"{subject}\",\"exp\":{}}}", NOW + 10);
        let token = signed("{\"alg\":\"EdDSA\"}", &payload, &signer.sign);
        let request = Request { path: "/", headers: vec![("authorization", format!("Bearer {token}"))] };
        let found = Check { request: &request, keys, cache: &mut cache, now }.ask(&requirement).map(|good| good.len());
        (found, cache.hits, cache.len())
    };
    assert_eq!(ask(0, &Local, NOW), (Ok(1), 0, 1));
    assert_eq!(ask(0, &Local, NOW), (Ok(1), 1, 1));
    assert_eq!(ask(0, &Local, NOW + 100).0, Err(Failure::Expired), "a cached token expires too");
    struct Rotated(Arc<Jwks>);
    impl Keys for Rotated {
        fn of(&self, _: &Provider) -> KeyState {
            KeyState::Ready(self.0.clone())
        }
    }
    assert_eq!(ask(0, &Rotated(Arc::new(set(&edwards().jwk))), NOW).0, Err(Failure::Verification));
    for subject in 0..1000 {
        assert!(ask(subject, &Local, NOW).2 <= 256);
    }
}
