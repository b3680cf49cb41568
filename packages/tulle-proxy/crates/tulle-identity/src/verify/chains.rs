//! Chains made to be expensive: however a peer arranges its certificates, few signatures are checked before it is refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use webpki::aws_lc_rs::ECDSA_P256_SHA256;

use super::*;

const BACKEND: &str = "spiffe://cluster.local/ns/default/sa/backend";
/// What webpki allows itself for one verification, whatever it is shown.
const BUDGET: usize = 100;

/// ECDSA that counts how often it is asked.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl SignatureVerificationAlgorithm for Counting {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        self.0.fetch_add(1, Ordering::Relaxed);
        ECDSA_P256_SHA256.verify_signature(key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        ECDSA_P256_SHA256.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        ECDSA_P256_SHA256.signature_alg_id()
    }
}

/// An authority of this name that `parent` vouches for; by itself without one.
fn authority(name: &str, parent: Option<&Authority>) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = match parent {
        Some(parent) => params.signed_by(&key, &parent.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Authority { certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
}

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn leaf(issuer: &Authority) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(BACKEND.try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, &issuer.issuer).unwrap().der().clone()
}

/// What comes of a chain, as a client's and as a server's, and how many signatures were checked for it at most.
fn shown(root: &Authority, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> (Result<(), Error>, usize) {
    let counting: &'static Counting = Box::leak(Box::default());
    let all: &'static [&'static dyn SignatureVerificationAlgorithm] = Box::leak(Box::new([counting as _]));
    let verifier = PeerVerifier {
        requirements: Requirements {
            roots: anchors(std::slice::from_ref(&root.certificate)),
            revoked: Arc::default(),
            spiffe: Spiffe::In("cluster.local".into(), Vec::new()),
            sans: Vec::new(),
            pins: Pins::default(),
            server_name: CheckServerName::No,
        },
        algorithms: WebPkiSupportedAlgorithms { all, mapping: &[] },
        mandatory: true,
    };
    let as_client = verifier.verify_client_cert(leaf, others, UnixTime::now()).map(drop);
    let first = counting.0.swap(0, Ordering::Relaxed);
    let name = ServerName::try_from("backend").unwrap();
    let as_server = verifier.verify_server_cert(leaf, others, &name, &[], UnixTime::now()).map(drop);
    assert_eq!(as_client.is_ok(), as_server.is_ok(), "{as_client:?}, {as_server:?}");
    (as_client, first.max(counting.0.load(Ordering::Relaxed)))
}

#[test]
fn an_honest_chain_costs_a_signature_for_each_certificate() {
    let root = authority("root", None);
    let middle = authority("middle", Some(&root));
    let low = authority("low", Some(&middle));
    let chain = [low.certificate.clone(), middle.certificate.clone()];
    let (outcome, signatures) = shown(&root, &leaf(&low), &chain);
    assert_eq!((outcome, signatures), (Ok(()), 3));
}

#[test]
fn authorities_that_could_all_have_signed_one_another_are_not_tried_in_every_order() {
    let root = authority("same", None);
    // Every one bears the root's name, which is also its issuer's; none was signed by the root.
    let strangers: Vec<_> = (0..40).map(|_| authority("same", Some(&authority("same", None)))).collect();
    let others: Vec<_> = strangers.iter().map(|stranger| stranger.certificate.clone()).collect();
    let (outcome, signatures) = shown(&root, &leaf(&strangers[0]), &others);
    assert!(outcome.is_err());
    assert!((1..=BUDGET).contains(&signatures), "{signatures} signatures were checked");
}

#[test]
fn a_long_chain_is_refused_before_its_signatures_are_checked() {
    let root = authority("root", None);
    let mut chain = vec![authority("0", Some(&root))];
    for depth in 1..40 {
        chain.push(authority(&depth.to_string(), Some(&chain[depth - 1])));
    }
    let leaf = leaf(&chain[39]);
    let others: Vec<_> = chain.iter().rev().map(|each| each.certificate.clone()).collect();
    let (outcome, signatures) = shown(&root, &leaf, &others);
    assert!(outcome.is_err());
    assert_eq!(signatures, 0);
}

#[test]
fn a_certificate_sent_many_times_is_looked_at_once() {
    let root = authority("root", None);
    let middle = authority("middle", Some(&root));
    let foreign = authority("middle", None);
    let others = vec![middle.certificate.clone(); 400];
    let (outcome, signatures) = shown(&root, &leaf(&middle), &others);
    assert_eq!((outcome, signatures), (Ok(()), 2));
    // The same, for a leaf that it has not signed.
    let (outcome, signatures) = shown(&root, &leaf(&foreign), &others);
    assert!(outcome.is_err());
    assert!(signatures <= BUDGET, "{signatures} signatures were checked");
}

#[test]
fn names_without_end_are_no_identity() {
    let root = authority("root", None);
    let mut params = CertificateParams::default();
    let uri =
        |n: usize| SanType::URI(format!("spiffe://cluster.local/ns/default/sa/a{n}").as_str().try_into().unwrap());
    params.subject_alt_names = (0..1000).map(uri).collect();
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &root.issuer).unwrap().der().clone();
    let (outcome, signatures) = shown(&root, &leaf, &[]);
    let why = format!("{:?}", outcome.unwrap_err());
    assert!(why.contains("UriCount(1000)"), "{why}");
    assert_eq!(signatures, 1);
}
