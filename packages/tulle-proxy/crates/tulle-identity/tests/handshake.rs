//! Real handshakes between two contexts: who is let in, who is not, in both directions.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::{Duration, OffsetDateTime};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tulle_config::Secret;
use tulle_config::store::Resources;
use tulle_config::tls::{
    CertificateSource, ClientCert, CommonTls, DataSource, DownstreamTls, KeyExchange, Pins, SanKind, SanMatcher,
    SecretOrigin, SecretRef, TlsVersion, TrustSource, UpstreamTls, Validation,
};
use tulle_identity::bundle::{self, Revocations};
use tulle_identity::contexts::Named;
use tulle_identity::{Identity, IdentityCell, TlsContexts};
use tulle_policy::StringMatcher;

struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

fn root() -> Root {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Root { certificate: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
}

fn leaf(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.distinguished_name.push(DnType::CommonName, "backend-v1");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "backend");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn issue(root: &Root, params: CertificateParams, trusted: &Root) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &root.issuer).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        roots: vec![trusted.certificate.clone()],
        federated: vec![],
        revoked: Arc::default(),
    }
}

fn contexts(identity: Option<Identity>) -> TlsContexts {
    let cell = Arc::new(IdentityCell::default());
    if let Some(identity) = identity {
        cell.set(identity);
    }
    TlsContexts::new(cell)
}

fn own(name: &str) -> SecretRef {
    SecretRef { name: name.into(), origin: SecretOrigin::Identity }
}

fn common(sans: &[&str]) -> CommonTls {
    let exact = |uri: &&str| SanMatcher { kind: SanKind::Uri, value: StringMatcher::exact(uri) };
    CommonTls {
        min: TlsVersion::V1_3,
        max: TlsVersion::V1_3,
        groups: vec![],
        suites: vec![],
        alpn: vec![Arc::from(&b"h2"[..])],
        certificates: vec![CertificateSource::Secret(own("default"))],
        validation: Validation {
            trust: Some(TrustSource::Secret(own("ROOTCA"))),
            sans: sans.iter().map(exact).collect(),
            pins: Pins::default(),
        },
    }
}

fn downstream() -> DownstreamTls {
    DownstreamTls { common: common(&[]), client_cert: ClientCert::Required, session_tickets: false, require_sni: false }
}

fn upstream(common: CommonTls) -> UpstreamTls {
    UpstreamTls { common, sni: None, auto_host_sni: false, auto_sni_san_validation: false }
}

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";
const BACKEND: &str = "spiffe://cluster.local/ns/default/sa/backend";

/// Both ends' outcome: the server's is its peer's leaf certificate.
async fn shake(
    client: &TlsContexts,
    server: &TlsContexts,
    settings: UpstreamTls,
) -> (Result<(), String>, Result<Vec<u8>, String>) {
    let secrets: Resources<Secret> = Resources::default();
    let connector = TlsConnector::from(client.client(&settings, (&[], Named::BySettings), &secrets).unwrap());
    let acceptor = TlsAcceptor::from(server.server(&downstream(), &secrets).unwrap());
    let (near, far) = tokio::io::duplex(1 << 16);
    let name = ServerName::try_from("outbound_.80_._.backend.default.svc.cluster.local").unwrap();
    let dial = async {
        use tokio::io::AsyncReadExt;
        let mut stream = connector.connect(name, near).await.map_err(|error| error.to_string())?;
        // In TLS 1.3 a refused client certificate shows only at the first read.
        let mut none = [0; 1];
        stream.read(&mut none).await.map(drop).map_err(|error| error.to_string())
    };
    let accept = async {
        use tokio::io::AsyncWriteExt;
        let mut stream = acceptor.accept(far).await.map_err(|error| error.to_string())?;
        let peer = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let _ = stream.shutdown().await;
        Ok(peer)
    };
    tokio::join!(dial, accept)
}

#[tokio::test]
async fn members_of_the_mesh_meet_and_know_each_other() {
    let mesh = root();
    let client = contexts(Some(issue(&mesh, leaf(&[CLIENT]), &mesh)));
    let server = contexts(Some(issue(&mesh, leaf(&[BACKEND]), &mesh)));
    let (dialed, accepted) = shake(&client, &server, upstream(common(&[BACKEND]))).await;
    dialed.unwrap();
    let peer = tulle_identity::peer::identity(&accepted.unwrap());
    assert_eq!(peer.spiffe.unwrap().to_string(), CLIENT);
    assert_eq!((peer.workload.as_deref(), peer.app.as_deref()), (Some("backend-v1"), Some("backend")));
}

#[tokio::test]
async fn a_server_with_another_identity_is_refused() {
    let mesh = root();
    let client = contexts(Some(issue(&mesh, leaf(&[CLIENT]), &mesh)));
    let server = contexts(Some(issue(&mesh, leaf(&["spiffe://cluster.local/ns/default/sa/other"]), &mesh)));
    let (dialed, _) = shake(&client, &server, upstream(common(&[BACKEND]))).await;
    assert!(dialed.unwrap_err().contains("sa/other"));
}

#[tokio::test]
async fn bad_client_certificates_are_refused() {
    let (mesh, foreign) = (root(), root());
    let now = OffsetDateTime::now_utc();
    let dated = |from: Duration, until: Duration| {
        let mut params = leaf(&[CLIENT]);
        (params.not_before, params.not_after) = (now + from, now + until);
        params
    };
    let mut authority = leaf(&[CLIENT]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut only_server = leaf(&[CLIENT]);
    only_server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let cases = [
        ("foreign root", &foreign, leaf(&[CLIENT])),
        ("expired", &mesh, dated(-Duration::hours(2), -Duration::hours(1))),
        ("not yet valid", &mesh, dated(Duration::hours(1), Duration::hours(2))),
        ("a certificate authority's", &mesh, authority),
        ("not for clients", &mesh, only_server),
        ("no URI name", &mesh, leaf(&[])),
        ("two URI names", &mesh, leaf(&[CLIENT, BACKEND])),
        ("trailing slash", &mesh, leaf(&["spiffe://cluster.local/ns/default/sa/client/"])),
        ("a NUL", &mesh, leaf(&["spiffe://cluster.local/ns/default/sa/client\0.evil"])),
        ("another trust domain", &mesh, leaf(&["spiffe://other/ns/default/sa/client"])),
    ];
    let server = contexts(Some(issue(&mesh, leaf(&[BACKEND]), &mesh)));
    for (what, signer, params) in cases {
        let client = contexts(Some(issue(signer, params, &mesh)));
        // The client takes its roots from elsewhere: with the mesh's it would refuse its own certificate already.
        let trust = TrustSource::Inline(DataSource::Inline(mesh.pem.as_bytes().into()));
        let stranger = CommonTls {
            validation: Validation { trust: Some(trust), sans: vec![], pins: Pins::default() },
            ..common(&[])
        };
        let (dialed, accepted) = shake(&client, &server, upstream(stranger)).await;
        assert!(accepted.is_err(), "{what}: accepted");
        assert!(dialed.is_err(), "{what}: the client did not notice");
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let mesh = root();
    let client = contexts(Some(issue(&mesh, leaf(&[CLIENT]), &mesh)));
    let server = contexts(Some(issue(&mesh, leaf(&[BACKEND]), &mesh)));
    let anonymous = CommonTls { certificates: vec![], ..common(&[BACKEND]) };
    let (dialed, accepted) = shake(&client, &server, upstream(anonymous)).await;
    assert!(accepted.is_err() && dialed.is_err());
}

#[test]
fn without_an_identity_nothing_is_served_or_dialed() {
    let contexts = contexts(None);
    let secrets = Resources::default();
    assert!(contexts.server(&downstream(), &secrets).is_err());
    assert!(contexts.client(&upstream(common(&[])), (&[], Named::BySettings), &secrets).is_err());
}

#[test]
fn a_new_identity_moves_the_generation() {
    let mesh = root();
    let cell = Arc::new(IdentityCell::default());
    let contexts = TlsContexts::new(cell.clone());
    let before = contexts.generation();
    cell.set(issue(&mesh, leaf(&[CLIENT]), &mesh));
    assert_ne!(contexts.generation(), before);
}

#[tokio::test]
async fn while_roots_rotate_both_are_trusted() {
    let (old, new) = (root(), root());
    let bundle = vec![old.certificate.clone(), new.certificate.clone()];
    let mut client = issue(&new, leaf(&[CLIENT]), &new);
    client.roots.clone_from(&bundle);
    let mut server = issue(&old, leaf(&[BACKEND]), &old);
    server.roots = bundle;
    let (dialed, accepted) =
        shake(&contexts(Some(client)), &contexts(Some(server)), upstream(common(&[BACKEND]))).await;
    dialed.unwrap();
    accepted.unwrap();
}

#[tokio::test]
async fn a_federated_trust_domain_is_vouched_for_by_its_own_roots_alone() {
    const GUEST: &str = "spiffe://other.example/ns/default/sa/guest";
    let (mesh, other, third) = (root(), root(), root());
    let federated = |identity: Identity, domain: &str, with: &Root| {
        contexts(Some(Identity { federated: vec![(domain.into(), vec![with.certificate.clone()])], ..identity }))
    };
    let server = federated(issue(&mesh, leaf(&[BACKEND]), &mesh), "other.example", &other);
    let cases = [
        ("a member", &mesh, CLIENT, true),
        ("a guest", &other, GUEST, true),
        ("a guest that the mesh's root vouches for", &mesh, GUEST, false),
        ("a member that the other root vouches for", &other, CLIENT, false),
        ("a guest that nobody knows", &third, GUEST, false),
        ("a third domain", &other, "spiffe://third.example/ns/default/sa/guest", false),
        ("a look-alike", &other, "spiffe://other.example.evil/ns/default/sa/guest", false),
    ];
    for (what, signer, uri, good) in cases {
        // Both ends check alike: each sees the other as its peer.
        let peer = federated(issue(signer, leaf(&[uri]), signer), "cluster.local", &mesh);
        let trusting = CommonTls {
            validation: Validation {
                trust: Some(TrustSource::Inline(DataSource::Inline(mesh.pem.as_bytes().into()))),
                sans: vec![],
                pins: Pins::default(),
            },
            ..common(&[])
        };
        let (_, accepted) = shake(&peer, &server, upstream(trusting)).await;
        assert_eq!(accepted.is_ok(), good, "{what} as a client: {accepted:?}");
        if signer.pem != mesh.pem || good {
            let (dialed, _) = shake(&server, &peer, upstream(common(&[]))).await;
            assert_eq!(dialed.is_ok(), good, "{what} as a server: {dialed:?}");
        }
    }
}

#[tokio::test]
async fn the_key_exchange_can_be_one_that_quantum_computers_do_not_break() {
    let mesh = root();
    let member = || contexts(Some(issue(&mesh, leaf(&[CLIENT]), &mesh)));
    let with = |groups: &[KeyExchange]| CommonTls { groups: groups.to_vec(), ..common(&[]) };
    let hybrid = [KeyExchange::X25519MlKem768];
    let prefers = [KeyExchange::X25519MlKem768, KeyExchange::X25519];
    let cases: [(&[KeyExchange], &[KeyExchange], Option<rustls::NamedGroup>); 4] = [
        (&hybrid, &hybrid, Some(rustls::NamedGroup::X25519MLKEM768)),
        (&prefers, &prefers, Some(rustls::NamedGroup::X25519MLKEM768)),
        (&prefers, &[KeyExchange::X25519], Some(rustls::NamedGroup::X25519)),
        (&hybrid, &[KeyExchange::X25519], None),
    ];
    for (client, server, expected) in cases {
        let secrets: Resources<Secret> = Resources::default();
        let config = member().client(&upstream(with(client)), (&[], Named::BySettings), &secrets).unwrap();
        let settings = DownstreamTls { common: with(server), ..downstream() };
        let acceptor = TlsAcceptor::from(member().server(&settings, &secrets).unwrap());
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from("backend").unwrap();
        let (dialed, _) = tokio::join!(TlsConnector::from(config).connect(name, near), acceptor.accept(far));
        let agreed = dialed.ok().and_then(|stream| Some(stream.get_ref().1.negotiated_key_exchange_group()?.name()));
        assert_eq!(agreed, expected, "{client:?} to {server:?}");
    }
}

#[tokio::test]
async fn the_mesh_speaks_tls_1_3_only() {
    let mesh = root();
    let server = contexts(Some(issue(&mesh, leaf(&[BACKEND]), &mesh)));
    let lax = DownstreamTls { common: CommonTls { min: TlsVersion::V1_2, ..common(&[]) }, ..downstream() };
    let config = server.server(&lax, &Resources::default()).unwrap();
    let acceptor = TlsAcceptor::from(config);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(1 << 16);
    let connector = TlsConnector::from(Arc::new(old));
    let (dialed, accepted) =
        tokio::join!(connector.connect(ServerName::try_from("backend").unwrap(), near), acceptor.accept(far));
    assert!(dialed.is_err());
    assert!(accepted.unwrap_err().to_string().contains("peer is incompatible"));
}

#[test]
fn details_show_what_certs_needs() {
    let mesh = root();
    let identity = issue(&mesh, leaf(&[BACKEND]), &mesh);
    let details = tulle_identity::details::details(&identity.chain[0]).unwrap();
    assert_eq!(details.uris, [BACKEND]);
    assert!(details.not_before < details.not_after && !details.serial_number.is_empty());
    assert!(tulle_identity::details::details(b"no certificate").is_err());
}

/// A list under `root` with the certificate of `identity` in it.
fn revoking(root: &Root, identity: &Identity) -> String {
    let (_, leaf) = x509_parser::parse_x509_certificate(&identity.chain[0]).unwrap();
    let now = OffsetDateTime::now_utc();
    let params = rcgen::CertificateRevocationListParams {
        this_update: now - Duration::hours(1),
        next_update: now + Duration::hours(1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: leaf.raw_serial().to_vec().into(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(&root.issuer).unwrap().pem().unwrap()
}

#[tokio::test]
async fn a_revoked_peer_is_refused_from_either_side_and_others_are_not() {
    let mesh = root();
    let revoked = issue(&mesh, leaf(&[CLIENT]), &mesh);
    let list = revoking(&mesh, &revoked);
    let knowing = |uri: &str| {
        let identity = issue(&mesh, leaf(&[uri]), &mesh);
        Identity { revoked: Arc::new(Revocations::parse(&list).unwrap()), ..identity }
    };
    let (_, parsed) = x509_parser::parse_x509_certificate(&revoked.chain[0]).unwrap();
    let server = contexts(Some(knowing(BACKEND)));
    assert!(server.is_revoked(parsed.raw_serial()));
    assert!(!server.is_revoked(&[1]));
    let revoked_name = contexts(Some(revoked));
    let (_, accepted) = shake(&revoked_name, &server, upstream(common(&[]))).await;
    assert!(accepted.unwrap_err().to_lowercase().contains("revoked"));
    let (dialed, _) = shake(&server, &revoked_name, upstream(common(&[]))).await;
    assert!(dialed.unwrap_err().to_lowercase().contains("revoked"));
    let other = contexts(Some(issue(&mesh, leaf(&[CLIENT]), &mesh)));
    let (dialed, accepted) = shake(&other, &server, upstream(common(&[]))).await;
    assert!(dialed.is_ok() && accepted.is_ok());
}

#[test]
fn a_certificate_is_current_only_under_the_root_that_signs() {
    let (old, new) = (root(), root());
    let both = |first: &Root, second: &Root| vec![first.certificate.clone(), second.certificate.clone()];
    let held = issue(&old, leaf(&[CLIENT]), &old);
    assert!(bundle::is_current(&held));
    assert!(bundle::is_current(&Identity { roots: both(&old, &new), ..issue(&old, leaf(&[CLIENT]), &old) }));
    assert!(!bundle::is_current(&Identity { roots: both(&new, &old), ..issue(&old, leaf(&[CLIENT]), &old) }));
    assert!(!bundle::is_current(&Identity { roots: Vec::new(), ..held }));
}

#[test]
fn a_damaged_list_or_bundle_is_refused_whole() {
    let mesh = root();
    let good = revoking(&mesh, &issue(&mesh, leaf(&[CLIENT]), &mesh));
    assert!(Revocations::parse("").is_ok_and(|none| !none.holds(&[1])));
    let damaged = format!("{good}-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    assert!(Revocations::parse(&damaged).is_err());
    assert!(bundle::roots(&good).is_err());
    assert_eq!(bundle::roots(&mesh.pem).unwrap().len(), 1);
}
