//! What a mutual TLS 1.3 handshake costs by key exchange: `handshake COUNT` prints, as JSON, the processor time in µs that both
//! ends together spend on one, with X25519 alone and with its hybrid with ML-KEM-768 (post-quantum).

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

const NAME: &str = "backend.default.svc.cluster.local";

struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn leaf(issuer: &Issuer<'_, KeyPair>) -> Leaf {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName(NAME.try_into().expect("a name"))];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    Leaf { chain: vec![certificate.der().clone()], key }
}

fn configurations(group: &'static dyn SupportedKxGroup) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let root = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).expect("a root");
    let roots = Arc::new(roots);
    let provider = Arc::new(CryptoProvider { kx_groups: vec![group], ..default_provider() });
    let versions = [&rustls::version::TLS13];
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
    let (near, far) = (leaf(&issuer), leaf(&issuer));
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
    let server = server.expect("versions").with_client_cert_verifier(verifier.expect("a verifier"));
    let mut server = server.with_single_cert(far.chain, far.key).expect("a certificate");
    server.send_tls13_tickets = 0;
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let client = client.expect("versions").with_root_certificates(roots);
    let client = client.with_client_auth_cert(near.chain, near.key).expect("a certificate");
    (Arc::new(client), Arc::new(server))
}

fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) {
    let name = ServerName::try_from(NAME).expect("a name");
    let mut near = ClientConnection::new(client.clone(), name).expect("a client");
    let mut far = ServerConnection::new(server.clone()).expect("a server");
    let mut wire = Vec::with_capacity(16 * 1024);
    while near.is_handshaking() || far.is_handshaking() {
        near.write_tls(&mut wire).expect("memory");
        far.read_tls(&mut wire.as_slice()).expect("memory");
        far.process_new_packets().expect("a good client");
        wire.clear();
        far.write_tls(&mut wire).expect("memory");
        near.read_tls(&mut wire.as_slice()).expect("memory");
        near.process_new_packets().expect("a good server");
        wire.clear();
    }
}

/// Processor time of this process so far, in µs.
fn spent() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours for the length of the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn main() {
    let count: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("usage: handshake COUNT");
    let groups: [(&str, &'static dyn SupportedKxGroup); 2] =
        [("X25519", kx_group::X25519), ("X25519MLKEM768", kx_group::X25519MLKEM768)];
    let all = groups.map(|(name, group)| (name, configurations(group)));
    // In turn, a tenth at a time, so that what else the machine does hits both.
    let mut cost = [0.0; 2];
    for round in 0..11 {
        for (at, (_, (client, server))) in all.iter().enumerate() {
            let before = spent();
            (0..count / 10).for_each(|_| shake(client, server));
            // The first round warms up.
            cost[at] += if round == 0 { 0.0 } else { spent() - before };
        }
    }
    let each = f64::from(count / 10 * 10);
    println!("{{\"{}\": {:.1}, \"{}\": {:.1}}}", all[0].0, cost[0] / each, all[1].0, cost[1] / each);
}
