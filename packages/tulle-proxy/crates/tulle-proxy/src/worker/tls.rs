//! TLS settings to rustls configurations: made once per settings and identity, and made again when either changes.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, DnsName, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tulle_balance::Endpoint;
use tulle_config::store::Resources;
use tulle_config::{Config, Discovery, DownstreamTls, Secret, UpstreamTls};
use tulle_connect::{DialError, Dialer, ServerIs, TlsDial};
use tulle_core::Str;
use tulle_identity::contexts::Named;
use tulle_identity::presented::Presented;
use tulle_identity::{MaterialError, TlsContexts};

use super::called::Called;

struct Made<S, C> {
    settings: std::sync::Weak<S>,
    config: C,
}

/// The serving side's configuration, and the certificate it presents with the first name in it.
#[derive(Clone)]
pub struct Serving {
    pub config: Arc<rustls::ServerConfig>,
    pub own: Option<Rc<Presented>>,
    pub own_uri: Option<Str>,
}

/// The calling side's.
#[derive(Clone)]
struct Calling {
    config: Arc<rustls::ClientConfig>,
    own: Option<Rc<Presented>>,
}

/// What a handshake came to, for logs.
pub struct Secured {
    pub version: &'static str,
    pub cipher: &'static str,
    /// The group of the key exchange.
    pub group: Option<&'static str>,
    pub own: Option<Rc<Presented>>,
    pub peer: Option<Rc<Presented>>,
}

type Servers = HashMap<usize, Made<DownstreamTls, Serving>>;
type Clients = HashMap<(usize, Vec<u8>, Named), Made<UpstreamTls, Calling>>;
/// By their bytes.
type Certificates = HashMap<CertificateDer<'static>, Weak<Presented>>;

/// One worker's rustls configurations.
pub struct TlsCache {
    contexts: Arc<TlsContexts>,
    own_servers: Vec<SocketAddr>,
    secrets: RefCell<Resources<Secret>>,
    generation: Cell<u64>,
    servers: RefCell<Servers>,
    clients: RefCell<Clients>,
    certificates: RefCell<Certificates>,
    called: Rc<Called>,
    /// The identity as of which all who are called were looked at.
    checked: Cell<u64>,
}

impl TlsCache {
    pub fn new(contexts: Arc<TlsContexts>, config: &Config) -> TlsCache {
        TlsCache {
            own_servers: own_servers(config),
            generation: Cell::new(contexts.generation()),
            contexts,
            secrets: RefCell::new(config.secrets.clone()),
            servers: RefCell::default(),
            clients: RefCell::default(),
            certificates: RefCell::default(),
            called: Rc::default(),
            checked: Cell::default(),
        }
    }

    /// Ends the connections to servers that were revoked since the last call. Costs nothing while trust does not change.
    pub fn cut_revoked(&self) {
        let now = self.contexts.generation();
        if self.checked.replace(now) != now {
            self.called.cut_revoked(&self.contexts);
        }
    }

    /// What configurations are made from.
    pub fn contexts(&self) -> &TlsContexts {
        &self.contexts
    }

    /// Forgets everything when secrets differ; configurations are made again on their next use.
    pub fn secrets_changed(&self, secrets: &Resources<Secret>) {
        if !Arc::ptr_eq(&self.secrets.replace(secrets.clone()), secrets) {
            self.forget();
        }
    }

    fn forget(&self) {
        self.servers.borrow_mut().clear();
        self.clients.borrow_mut().clear();
    }

    /// Certificates are renewed while the proxy runs: one atomic load tells.
    fn refresh(&self) {
        let now = self.contexts.generation();
        if self.generation.replace(now) != now {
            self.forget();
        }
    }

    /// # Errors
    /// While material is missing or unusable; the connection must then be refused.
    pub fn server(&self, settings: &Arc<DownstreamTls>) -> Result<Serving, MaterialError> {
        self.refresh();
        let key = Arc::as_ptr(settings) as usize;
        if let Some(made) = self.servers.borrow().get(&key)
            && made.settings.upgrade().is_some_and(|same| Arc::ptr_eq(&same, settings))
        {
            return Ok(made.config.clone());
        }
        let secrets = self.secrets.borrow();
        let own = self.contexts.own(&settings.common, &secrets);
        let own_uri = own.as_ref().and_then(|own| tulle_identity::peer::names(own).ok()?.uris.into_iter().next());
        let own = own.as_ref().map(|own| self.presented(own));
        let config =
            Serving { config: self.contexts.server(settings, &secrets)?, own, own_uri: own_uri.map(Str::from) };
        let mut servers = self.servers.borrow_mut();
        servers.retain(|_, made| made.settings.strong_count() > 0);
        servers.insert(key, Made { settings: Arc::downgrade(settings), config: config.clone() });
        Ok(config)
    }

    /// The one shared copy of a certificate, for as long as anybody has it.
    pub fn presented(&self, certificate: &CertificateDer<'_>) -> Rc<Presented> {
        let mut all = self.certificates.borrow_mut();
        if let Some(known) = all.get(certificate).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, known| known.strong_count() > 0);
        let presented = Rc::new(Presented::new(certificate));
        all.insert(certificate.clone().into_owned(), Rc::downgrade(&presented));
        presented
    }

    fn client(&self, settings: &Arc<UpstreamTls>, alpn: &[&[u8]], named: Named) -> Result<Calling, MaterialError> {
        self.refresh();
        let key = (Arc::as_ptr(settings) as usize, alpn.concat(), named);
        if let Some(made) = self.clients.borrow().get(&key)
            && made.settings.upgrade().is_some_and(|same| Arc::ptr_eq(&same, settings))
        {
            return Ok(made.config.clone());
        }
        let own = self.contexts.own(&settings.common, &self.secrets.borrow());
        let own = own.map(|own| self.presented(&own));
        let config = Calling { config: self.contexts.client(settings, (alpn, named), &self.secrets.borrow())?, own };
        let mut clients = self.clients.borrow_mut();
        clients.retain(|_, made| made.settings.strong_count() > 0);
        clients.insert(key, Made { settings: Arc::downgrade(settings), config: config.clone() });
        Ok(config)
    }
}

impl Dialer for TlsCache {
    fn tls(
        &self,
        settings: &Arc<UpstreamTls>,
        endpoint: &Endpoint,
        alpn: &[&[u8]],
        name: Option<&ServerIs>,
    ) -> Result<TlsDial, DialError> {
        let named = if name.is_some_and(|name| name.verified) { Named::ByRequest } else { Named::BySettings };
        let made = self.client(settings, alpn, named).map_err(|e| DialError::NoIdentity(e.to_string()))?;
        let server_name = match name {
            // An address is no SNI, but a certificate may have it.
            Some(name) if name.verified || name.sent && name.host.parse::<IpAddr>().is_err() => by_name(&name.host)?,
            _ => server_name(settings, endpoint)?,
        };
        Ok(TlsDial { config: made.config, own: made.own.map(|own| own as Rc<dyn Any>), server_name })
    }

    fn secured(&self, own: Option<Rc<dyn Any>>, stream: &TlsStream<TcpStream>) -> Option<Rc<dyn Any>> {
        let session = stream.get_ref().1;
        let peer = session.peer_certificates().and_then(|chain| chain.first());
        Some(Rc::new(Secured {
            version: version(session),
            cipher: cipher(session),
            group: group(session),
            own: own.and_then(|own| own.downcast().ok()),
            peer: peer.map(|peer| self.presented(peer)),
        }))
    }

    fn dialed(&self, stream: &TlsStream<TcpStream>) -> Option<Box<dyn Any>> {
        let (socket, session) = stream.get_ref();
        let serial = tulle_identity::peer::serial(session.peer_certificates()?.first()?);
        Some(Box::new(self.called.enter(serial, socket.as_raw_fd())))
    }

    fn own_servers(&self) -> &[SocketAddr] {
        &self.own_servers
    }
}

/// The protocol's version as logs name it.
pub fn version(session: &rustls::CommonState) -> &'static str {
    match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    }
}

/// The group of the key exchange by OpenSSL's name, as logs name it.
pub fn group(session: &rustls::CommonState) -> Option<&'static str> {
    use rustls::NamedGroup as Group;
    match session.negotiated_key_exchange_group()?.name() {
        Group::X25519 => Some("X25519"),
        Group::secp256r1 => Some("P-256"),
        Group::secp384r1 => Some("P-384"),
        Group::X25519MLKEM768 => Some("X25519MLKEM768"),
        other => other.as_str(),
    }
}

/// The cipher suite by OpenSSL's name, as logs name it.
pub fn cipher(session: &rustls::CommonState) -> &'static str {
    use rustls::CipherSuite as Suite;
    match session.negotiated_cipher_suite().map(|suite| suite.suite()) {
        Some(Suite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(Suite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(Suite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        Some(Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256) => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Some(Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384) => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Some(Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256) => "ECDHE-ECDSA-CHACHA20-POLY1305",
        Some(Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) => "ECDHE-RSA-AES128-GCM-SHA256",
        Some(Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) => "ECDHE-RSA-AES256-GCM-SHA384",
        Some(Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256) => "ECDHE-RSA-CHACHA20-POLY1305",
        other => other.and_then(|suite| suite.as_str()).unwrap_or("-"),
    }
}

/// The bootstrap's cluster for the control plane.
const CONTROL_PLANE: &str = "xds-grpc";

fn own_servers(config: &Config) -> Vec<SocketAddr> {
    let Some(cluster) = config.clusters.get(CONTROL_PLANE) else { return Vec::new() };
    let Discovery::Static(endpoints) = &cluster.discovery else { return Vec::new() };
    let each = endpoints.localities.iter().flat_map(|locality| locality.endpoints.iter());
    each.filter_map(|endpoint| endpoint.address.socket()).collect()
}

/// What goes into SNI. Istio's names (`outbound_.80_._.host`) are DNS names as far as TLS is concerned. Without one
/// the endpoint's address stands in: addresses are never sent as SNI.
pub fn server_name(settings: &UpstreamTls, endpoint: &Endpoint) -> Result<ServerName<'static>, DialError> {
    let from_host = endpoint.hostname.as_deref().filter(|_| settings.auto_host_sni);
    match from_host.or(settings.sni.as_deref()).filter(|name| !name.is_empty()) {
        Some(name) => by_name(name),
        None => endpoint.address.ip().map(|ip| ServerName::IpAddress(ip.into())).ok_or(DialError::Address),
    }
}

fn by_name(name: &str) -> Result<ServerName<'static>, DialError> {
    match DnsName::try_from(name.to_owned()) {
        Ok(name) => Ok(ServerName::DnsName(name)),
        Err(_) => ServerName::try_from(name.to_owned()).map_err(|_| DialError::Tls(format!("SNI {name:?}"))),
    }
}
