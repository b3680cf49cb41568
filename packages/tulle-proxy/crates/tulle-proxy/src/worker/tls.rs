//! TLS settings to rustls configurations: made once per settings and identity, and made again when either changes.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use rustls_pki_types::{DnsName, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tulle_balance::Endpoint;
use tulle_config::store::Resources;
use tulle_config::{Config, Discovery, DownstreamTls, Secret, UpstreamTls};
use tulle_connect::{DialError, Dialer, TlsDial};
use tulle_core::Str;
use tulle_identity::{MaterialError, TlsContexts};

use super::called::Called;

struct Made<S, C> {
    settings: Weak<S>,
    config: C,
}

/// The serving side's configuration, and the name in the certificate it presents.
#[derive(Clone)]
pub struct Serving {
    pub config: Arc<rustls::ServerConfig>,
    pub own_uri: Option<Str>,
}

type Servers = HashMap<usize, Made<DownstreamTls, Serving>>;
type Clients = HashMap<(usize, Vec<u8>), Made<UpstreamTls, Arc<rustls::ClientConfig>>>;

/// One worker's rustls configurations.
pub struct TlsCache {
    contexts: Arc<TlsContexts>,
    own_servers: Vec<SocketAddr>,
    secrets: RefCell<Resources<Secret>>,
    generation: Cell<u64>,
    servers: RefCell<Servers>,
    clients: RefCell<Clients>,
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
        let own_uri = self.contexts.own_uri(settings, &secrets).map(Str::from);
        let config = Serving { config: self.contexts.server(settings, &secrets)?, own_uri };
        let mut servers = self.servers.borrow_mut();
        servers.retain(|_, made| made.settings.strong_count() > 0);
        servers.insert(key, Made { settings: Arc::downgrade(settings), config: config.clone() });
        Ok(config)
    }

    fn client(&self, settings: &Arc<UpstreamTls>, alpn: &[&[u8]]) -> Result<Arc<rustls::ClientConfig>, MaterialError> {
        self.refresh();
        let key = (Arc::as_ptr(settings) as usize, alpn.concat());
        if let Some(made) = self.clients.borrow().get(&key)
            && made.settings.upgrade().is_some_and(|same| Arc::ptr_eq(&same, settings))
        {
            return Ok(made.config.clone());
        }
        let config = self.contexts.client(settings, alpn, &self.secrets.borrow())?;
        let mut clients = self.clients.borrow_mut();
        clients.retain(|_, made| made.settings.strong_count() > 0);
        clients.insert(key, Made { settings: Arc::downgrade(settings), config: config.clone() });
        Ok(config)
    }
}

impl Dialer for TlsCache {
    fn tls(&self, settings: &Arc<UpstreamTls>, endpoint: &Endpoint, alpn: &[&[u8]]) -> Result<TlsDial, DialError> {
        let config = self.client(settings, alpn).map_err(|e| DialError::NoIdentity(e.to_string()))?;
        Ok(TlsDial { config, server_name: server_name(settings, endpoint)? })
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
        Some(name) => match DnsName::try_from(name.to_owned()) {
            Ok(name) => Ok(ServerName::DnsName(name)),
            Err(_) => ServerName::try_from(name.to_owned()).map_err(|_| DialError::Tls(format!("SNI {name:?}"))),
        },
        None => endpoint.address.ip().map(|ip| ServerName::IpAddress(ip.into())).ok_or(DialError::Address),
    }
}
