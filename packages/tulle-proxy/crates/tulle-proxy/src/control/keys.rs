//! Fetches the keys of token issuers from their servers, ahead of the requests that need them.
//!
//! One task per server. Keys are fetched anew at half of their life, so that a server may be away for the other half;
//! after that there are none, and tokens are refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tulle_balance::Endpoint;
use tulle_config::{Cluster, Config, Discovery, HttpFilter, NetworkFilter};
use tulle_connect::Dialer;
use tulle_connect::dial::dial;
use tulle_core::metadata::Value;
use tulle_core::{Address, Rng};
use tulle_token::{Jwks, RemoteKeys, jwks};

use super::log::{Level, Log};
use crate::worker::Launch;
use crate::worker::keys::Fetched;
use crate::worker::target::endpoints_of;
use crate::worker::tls::TlsCache;

/// A cluster's metadata under this name says with `private_addresses: true` that its names may lead to addresses that
/// are not public.
pub const ALLOWANCE: (&str, &str) = ("tulle", "private_addresses");

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Fetcher {
    launch: Launch,
    dialer: Rc<dyn Dialer>,
    log: Log,
    rng: RefCell<Rng>,
}

/// Keeps the keys that the configuration in `launch.store` asks for, for ever.
pub async fn run(launch: &Launch, log: &Log) {
    let published = Arc::new(Notify::new());
    let wake = published.clone();
    launch.store.on_publish(move || wake.notify_one());
    let tls = Rc::new(TlsCache::new(launch.contexts.clone(), &launch.store.load()));
    let fetcher = Rc::new(Fetcher {
        launch: launch.clone(),
        dialer: tls.clone(),
        log: log.clone(),
        rng: RefCell::new(Rng::seeded(launch.seed)),
    });
    let mut tasks: HashMap<Arc<RemoteKeys>, Task> = HashMap::new();
    loop {
        let config = launch.store.load();
        tls.secrets_changed(&config.secrets);
        let wanted = servers(&config);
        tasks.retain(|server, _| {
            let kept = wanted.contains(server);
            if !kept {
                launch.keys.learn(server, None);
            }
            kept
        });
        for server in wanted {
            tasks.entry(server.clone()).or_insert_with(|| {
                let fetcher = fetcher.clone();
                Task(tokio::task::spawn_local(async move { fetcher.keep(&server).await }))
            });
        }
        published.notified().await;
    }
}

/// Every key server that some token filter names, once.
fn servers(config: &Config) -> Vec<Arc<RemoteKeys>> {
    let mut found: Vec<Arc<RemoteKeys>> = Vec::new();
    for listener in config.listeners.values() {
        for chain in listener.chains.iter().chain(&listener.default_chain) {
            let NetworkFilter::Http(hcm) = &chain.filter else { continue };
            for filter in &hcm.filters {
                if let HttpFilter::Tokens(named) = filter.awake() {
                    found.extend(named.settings.key_servers().cloned());
                }
            }
        }
    }
    for extension in config.extensions.values() {
        if let Some(HttpFilter::Tokens(named)) = &extension.filter {
            found.extend(named.settings.key_servers().cloned());
        }
    }
    found.sort();
    found.dedup();
    found
}

impl Fetcher {
    async fn keep(&self, server: &Arc<RemoteKeys>) {
        let mut good_until: Option<Instant> = None;
        loop {
            let pause = match self.fetch(server).await {
                Ok(keys) => {
                    self.launch.keys.learn(server, Some(Fetched::Keys(Arc::new(keys))));
                    good_until = Some(Instant::now() + server.cache);
                    server.cache / 2
                }
                Err(reason) => {
                    self.log.say(Level::Warn, || format!("keys of {}{}: {reason}", server.authority, server.path));
                    let now = Instant::now();
                    if good_until.is_none_or(|until| until <= now) {
                        good_until = None;
                        self.launch.keys.learn(server, Some(Fetched::Nothing));
                    }
                    server.retry.min(good_until.map_or(server.retry, |until| until - now))
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn fetch(&self, server: &RemoteKeys) -> Result<Jwks, String> {
        let mut left = server.retries;
        loop {
            let found = tokio::time::timeout(server.timeout, self.ask(server)).await;
            match found.unwrap_or_else(|_| Err(format!("no answer within {:?}", server.timeout))) {
                Err(_) if left > 0 => left -= 1,
                found => return found,
            }
        }
    }

    /// Asks one of the cluster's endpoints.
    async fn ask(&self, server: &RemoteKeys) -> Result<Jwks, String> {
        let config = self.launch.store.load();
        let cluster = config.clusters.get(&server.cluster).ok_or_else(|| format!("no cluster {}", server.cluster))?;
        let known = self.launch.hosts.known().get(&server.cluster).cloned();
        let endpoints = endpoints_of(&config, cluster, known.as_deref()).unwrap_or_default();
        let all: Vec<&Endpoint> = endpoints.localities.iter().flat_map(|locality| locality.endpoints.iter()).collect();
        let allowed: Vec<&&Endpoint> = all.iter().filter(|endpoint| may_be_asked(cluster, endpoint)).collect();
        if allowed.is_empty() && !all.is_empty() {
            return Err(format!("cluster {} leads to an address that is refused", server.cluster));
        }
        let chosen = self.rng.borrow_mut().next_u64() as usize % allowed.len().max(1);
        let endpoint = allowed.get(chosen).ok_or_else(|| format!("cluster {} has no endpoint", server.cluster))?;
        let stream = dial(&self.dialer, cluster, endpoint, &[b"http/1.1"]).await.map_err(|e| e.to_string())?;
        let text = get(server, TokioIo::new(stream)).await?;
        Jwks::parse(&text).map_err(|e| format!("the answer {e}"))
    }
}

async fn get(server: &RemoteKeys, stream: TokioIo<tulle_http::Stream>) -> Result<Bytes, String> {
    let (mut send, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(|e| e.to_string())?;
    let driving = Task(tokio::task::spawn_local(async move {
        // What went wrong is told to whoever waits for the answer.
        let _how = connection.await;
    }));
    let request = Request::get(&*server.path)
        .header(header::HOST, &*server.authority)
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|e| e.to_string())?;
    let response = send.send_request(request).await.map_err(|e| e.to_string())?;
    if response.status() != 200 {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), jwks::LARGEST).collect().await.map_err(|e| e.to_string())?;
    drop(driving);
    Ok(body.to_bytes())
}

/// Link-local addresses, where clouds keep credentials, are never asked; others that are not public only where the
/// configuration itself says the address (or `localhost`), or allows them.
fn may_be_asked(cluster: &Cluster, endpoint: &Endpoint) -> bool {
    let Some(ip) = endpoint.address.socket().map(|socket| socket.ip().to_canonical()) else { return false };
    let (filter, key) = ALLOWANCE;
    if cluster.metadata.filter(filter).and_then(|fields| fields.get(key)) == Some(&Value::Bool(true)) {
        return true;
    }
    let by_name = match &cluster.discovery {
        Discovery::StrictDns(names) | Discovery::LogicalDns(names) => {
            !names.endpoints.iter().any(|each| match &each.address {
                Address::Ip(written) => written.ip() == ip,
                Address::Name { host, .. } => &**host == "localhost" && ip.is_loopback(),
                _ => false,
            })
        }
        Discovery::Dynamic => true,
        _ => false,
    };
    !(is_link_local(ip) || by_name && is_private(ip))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast() || v6.segments()[..2] == [0xfd00, 0xec2],
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_loopback() || a == 0 || (a == 100 && (64..128).contains(&b)) || a >= 240
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(kind: &str, host: &str, metadata: &str) -> Arc<Cluster> {
        let text = format!(
            r#"
static_resources:
  clusters:
  - name: keys
    type: {kind}
    {metadata}
    load_assignment:
      cluster_name: keys
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {host}, port_value: 80}}}}}}}}]}}]
"#
        );
        let loaded = tulle_xds::bootstrap::load(&text).unwrap();
        tulle_xds::ads::Client::new(&loaded.bootstrap).take_update().unwrap().clusters["keys"].clone()
    }

    #[test]
    fn names_do_not_lead_to_private_addresses_unless_allowed() {
        let may = |cluster: &Cluster, ip: &str| {
            may_be_asked(cluster, &Endpoint::new(Address::Ip((ip.parse::<IpAddr>().unwrap(), 80).into())))
        };
        let by_name = cluster("STRICT_DNS", "keys.example", "");
        for refused in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "0.0.0.0", "::1", "fd12::1"]
        {
            assert!(!may(&by_name, refused), "{refused}");
        }
        assert!(!may(&by_name, "::ffff:127.0.0.1"));
        assert!(may(&by_name, "192.0.2.1") && may(&by_name, "2001:db8::1"));
        let written = cluster("STATIC", "10.1.2.3", "");
        let localhost = cluster("STRICT_DNS", "localhost", "");
        assert!(may(&written, "10.1.2.3") && may(&localhost, "127.0.0.1") && !may(&localhost, "10.1.2.3"));
        for metadata_service in ["169.254.169.254", "fe80::1", "fd00:ec2::254"] {
            assert!(!may(&written, metadata_service) && !may(&by_name, metadata_service), "{metadata_service}");
        }
        let allowed = "metadata: {filter_metadata: {tulle: {private_addresses: true}}}";
        assert!(may(&cluster("STRICT_DNS", "keys.example", allowed), "10.1.2.3"));
    }
}
