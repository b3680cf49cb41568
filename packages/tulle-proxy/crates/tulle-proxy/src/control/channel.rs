//! The gRPC channel to the control plane: one of the bootstrap's clusters, with this process's own identity.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tulle_balance::Endpoint as Target;
use tulle_config::{Cluster, ConfigStore, Discovery};
use tulle_core::{Address, Str};
use tulle_identity::contexts::Named;
use tulle_identity::{IdentityCell, TlsContexts};
use tulle_xds::driver::Connect;

use crate::worker::tls::server_name;

/// A half-open connection is noticed within this and the next one.
const PING: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
const _: () = assert!(PING.as_secs() + PING_TIMEOUT.as_secs() < 15, "a half-open connection must be noticed in 15 s");

pub struct ControlPlane {
    pub cluster: Str,
    pub store: Arc<ConfigStore>,
    pub contexts: Arc<TlsContexts>,
    /// `Some`: nothing is asked for before there is an identity.
    pub identity: Option<Arc<IdentityCell>>,
    /// Counts the attempts: each goes to the next replica.
    pub attempts: AtomicUsize,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Connect for ControlPlane {
    async fn connect(&self) -> Result<Channel, String> {
        if let Some(identity) = &self.identity {
            while identity.get().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let config = self.store.load();
        let cluster = config.clusters.get(&self.cluster).ok_or_else(|| format!("no cluster {}", self.cluster))?.clone();
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let target = endpoint(&cluster, attempt).ok_or_else(|| format!("cluster {} has no endpoint", self.cluster))?;
        if cluster.transport.proxied().is_some() {
            return Err(format!("cluster {}: no control plane is told of clients (PROXY protocol)", self.cluster));
        }
        let tls = match cluster.transport.tls() {
            None => None,
            Some(settings) => {
                let made = self
                    .contexts
                    .client(settings, (&[b"h2"], Named::BySettings), &config.secrets)
                    .map_err(|e| e.to_string())?;
                Some((made, server_name(settings, &target).map_err(|e| e.to_string())?))
            }
        };
        let dial = service_fn(move |_: http::Uri| {
            let (target, tls) = (target.clone(), tls.clone());
            async move {
                let tcp = match &target.address {
                    Address::Ip(address) => TcpStream::connect(address).await?,
                    Address::Name { host, port } => TcpStream::connect((&**host, *port)).await?,
                    other => return Err(std::io::Error::other(format!("{other} cannot be dialed"))),
                };
                tcp.set_nodelay(true)?;
                let io: Box<dyn Io> = match tls {
                    None => Box::new(tcp),
                    Some((config, name)) => Box::new(TlsConnector::from(config).connect(name, tcp).await?),
                };
                Ok(TokioIo::new(io))
            }
        });
        // The scheme and host are not used to dial; the authority is what gRPC shows the server.
        let endpoint = Endpoint::from_static("http://tulle-control-plane")
            .connect_timeout(cluster.connect_timeout)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        endpoint.connect_with_connector(dial).await.map_err(|e| chain(&e))
    }

    fn identified(&self) -> bool {
        self.identity.as_ref().is_none_or(|identity| identity.get().is_some())
    }
}

/// The replica for this attempt, one after the other.
fn endpoint(cluster: &Cluster, attempt: usize) -> Option<Target> {
    let all: Vec<Target> = match &cluster.discovery {
        Discovery::Static(set) => {
            set.localities.iter().flat_map(|locality| locality.endpoints.iter().cloned()).collect()
        }
        Discovery::StrictDns(names) | Discovery::LogicalDns(names) => names
            .endpoints
            .iter()
            .map(|named| Target { hostname: Some(named.hostname.clone()), ..Target::new(named.address.clone()) })
            .collect(),
        _ => Vec::new(),
    };
    all.get(attempt.checked_rem(all.len())?).cloned()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::endpoint;

    #[test]
    fn each_attempt_goes_to_the_next_replica() {
        let replica =
            |port| format!("{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}");
        let of = |kind: &str, replicas: &str| {
            let text = format!(
                "static_resources: {{clusters: [{{name: xds, type: {kind}, load_assignment: {{cluster_name: xds, \
                 endpoints: [{{lb_endpoints: [{replicas}]}}]}}}}]}}"
            );
            tulle_xds::bootstrap::load(&text).unwrap().bootstrap.resources.clusters[0].clone()
        };
        for kind in ["STATIC", "STRICT_DNS"] {
            let cluster = of(kind, &[replica(1), replica(2)].join(", "));
            let tried: Vec<String> =
                (0..3).map(|attempt| endpoint(&cluster, attempt).unwrap().address.to_string()).collect();
            assert_eq!(tried, ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1"], "{kind}");
        }
        assert!(endpoint(&of("STATIC", ""), 0).is_none());
    }
}
