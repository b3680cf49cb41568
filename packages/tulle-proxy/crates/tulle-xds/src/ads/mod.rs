//! The delta discovery protocol without I/O: responses in, requests and configuration out, time as a parameter.
//!
//! [`session`] keeps one stream's subscriptions, nonces and versions; [`cache`] keeps what was accepted and decides when
//! it is warm; [`Client`] joins them; [`saved`] is what outlives the process. The last accepted state of every resource
//! stays in force whatever the control plane sends or fails to send, and across streams.

mod beginning;
pub mod cache;
pub mod files;
mod references;
pub mod saved;
pub mod session;
pub mod world;

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3 as ads_pb;
use envoy_types::pb::google::protobuf::Any;
use tulle_config::{AdsConfig, Bootstrap, Config, Files, Readiness, Runtime};
use tulle_core::{Nanos, Str};

use crate::decode::{self, Finding, Kind, Resource};
use cache::{Cache, Entry};
use saved::Unsaved;
use session::Session;

/// The largest resource taken, in bytes: a service of a hundred thousand endpoints fits. What is larger is refused by name
/// before it is decoded, so that it costs no more than its transfer.
const LARGEST: usize = 16 << 20;

/// What happened to one response, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    pub type_url: String,
    pub accepted: usize,
    pub removed: usize,
    /// One text for each refused resource, as sent back in the NACK; empty for an ACK.
    pub refused: Vec<String>,
    /// What was accepted but has no effect.
    pub warnings: Vec<String>,
}

/// The delta client of one proxy.
pub struct Client {
    session: Session,
    cache: Cache,
    runtime: Arc<Runtime>,
    /// The files that hold all resources of a kind.
    whole: Vec<(Kind, Str)>,
    material: Option<MaterialCheck>,
}

/// Tells what is wrong with the certificates and keys that a resource holds or names, before it takes another's place.
pub type MaterialCheck = Box<dyn Fn(&Resource) -> Result<(), String> + Send>;

impl Client {
    /// A client that knows the static resources; `ads` is `None` when they are everything there is.
    pub fn new(bootstrap: &Bootstrap) -> Self {
        let ads = bootstrap.ads.as_ref();
        let Files { listeners, clusters } = bootstrap.files.clone();
        let whole = [(Kind::Cluster, clusters), (Kind::Listener, listeners)];
        let whole = whole.into_iter().filter_map(|(kind, path)| Some((kind, path?))).collect();
        Client {
            session: Session::new(&bootstrap.node, wildcards(ads)),
            cache: Cache::new(bootstrap),
            runtime: bootstrap.runtime.clone(),
            whole,
            material: None,
        }
    }

    /// From here on, resources with certificates that cannot be used are refused.
    pub fn check_material(&mut self, check: MaterialCheck) {
        self.material = Some(check);
    }

    fn usable(&self, key: &str, value: &Resource) -> Result<(), String> {
        if let Resource::Secret(_, secret) = value {
            self.cache.check_secret(key, secret)?;
        }
        self.material.as_ref().map_or(Ok(()), |check| check(value))
    }

    /// A stream was opened: everything wanted is subscribed to again, with the versions already held.
    pub fn connected(&mut self, now: Nanos) {
        self.cache.stream_opened(now);
        self.session.reset();
    }

    /// Takes a response; its ACK or NACK and new subscriptions come out of [`Client::next_request`].
    pub fn receive(&mut self, response: ads_pb::DeltaDiscoveryResponse, now: Nanos) -> Handled {
        let mut handled = Handled {
            type_url: response.type_url.clone(),
            accepted: 0,
            removed: 0,
            refused: Vec::new(),
            warnings: Vec::new(),
        };
        let Some(kind) = Kind::from_type_url(&response.type_url) else {
            handled.refused.push(format!("{} was not subscribed to", response.type_url));
            self.session.refuse_type(response.type_url, response.nonce, handled.refused.join("\n"));
            return handled;
        };
        let mut seen = std::collections::HashSet::new();
        for resource in response.resources {
            if !seen.insert(resource.name.clone()) {
                handled.refused.push(format!("{}: appears twice in one response", resource.name));
                continue;
            }
            self.take(kind, resource, &mut handled, now);
        }
        for name in response.removed_resources {
            self.session.forget(kind, &name);
            self.cache.remove(kind, &name);
            handled.removed += 1;
        }
        self.cache.answered(kind);
        self.session.acknowledge(kind, response.nonce, handled.refused.join("\n"));
        self.settle(now);
        handled
    }

    fn take(&mut self, kind: Kind, resource: ads_pb::Resource, handled: &mut Handled, now: Nanos) {
        let name = resource.name;
        // A resource without a body only prolongs a time-to-live, and there is none here.
        let Some(body) = resource.resource else { return };
        let hash = saved::hash(&body);
        if self.cache.holds(kind, &name, hash) {
            self.session.accept(kind, &name, resource.version.clone());
            self.cache.confirm(kind, &name, resource.version, body);
            handled.accepted += 1;
            return;
        }
        let decoded = self.decode(kind, &name, &body).and_then(|decoded| {
            self.cache.check_clusters(&decoded.0)?;
            Ok(decoded)
        });
        match decoded {
            Ok((value, warnings)) => {
                handled.warnings.extend(warnings.iter().map(|warning| format!("{name}: {warning}")));
                handled.accepted += 1;
                self.session.accept(kind, &name, resource.version.clone());
                self.cache.insert(kind, value, Entry::new(resource.version, hash, &body, now));
                self.cache.recorder().record((kind, name.into()), body);
            }
            Err(reason) => {
                let text = format!("{name}: {reason}");
                self.cache.refused(kind, &name, resource.version, text.clone(), now);
                handled.refused.push(text);
            }
        }
    }

    fn decode(&self, kind: Kind, name: &str, body: &Any) -> Result<(Resource, Vec<Finding>), String> {
        if body.value.len() > LARGEST {
            return Err(format!("{} bytes, and at most {LARGEST} are taken", body.value.len()));
        }
        let (value, warnings) = decode::resource_by(kind, body, &self.runtime).map_err(|findings| join(&findings))?;
        if &**value.name() != name {
            return Err(format!("the resource calls itself {:?}", value.name()));
        }
        self.cache.check(kind, name)?;
        self.usable(name, &value)?;
        match &value {
            Resource::Scope(scope) => self.cache.check_scope(scope)?,
            Resource::Extension(name, extension) => self.cache.check_extension(name, extension)?,
            _ => {}
        }
        Ok((value, warnings))
    }

    /// From here on, [`Client::unsaved`] tells what is to be kept on disk.
    pub fn keep(&mut self) {
        self.cache.recorder().start();
    }

    /// What is to be kept on disk, once after each change.
    pub fn unsaved(&mut self) -> Option<Unsaved> {
        self.cache.unsaved()
    }

    /// Takes back what could not be written; it is told again.
    pub fn put_back(&mut self, unsaved: Unsaved) {
        self.cache.recorder().put_back(unsaved);
    }

    /// Has the next stream claim to hold everything in no version, so that all of it is sent again, and what went
    /// meanwhile is told.
    pub fn ask_again(&mut self) {
        self.session.doubt();
    }

    /// Puts in force what an earlier process kept, all of it or nothing, and becomes complete with that; returns how
    /// many resources it is.
    ///
    /// # Errors
    /// Why a resource in it is refused; nothing has changed then.
    pub fn restore(&mut self, bytes: &[u8], now: Nanos) -> Result<usize, String> {
        let mut waiting = Vec::new();
        for (kind, name, version, body) in saved::decode(bytes)? {
            let (value, _) = self.decode(kind, &name, &body).map_err(|reason| format!("{name}: {reason}"))?;
            waiting.push((kind, value, Entry::new(version, saved::hash(&body), &body, now)));
        }
        let kept = waiting.len();
        loop {
            // What refers to others comes before them.
            self.cache.settle(now);
            let (wanted, later): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(kind, value, _)| self.cache.takes(*kind, value.name()));
            waiting = later;
            if wanted.is_empty() {
                break;
            }
            for (kind, value, entry) in wanted {
                if kind == Kind::Cluster && !self.session.wants_all(kind) {
                    // A request had asked for it: without a subscription it would stay as it is for ever.
                    self.cache.demand(value.name());
                }
                self.session.accept(kind, value.name(), entry.version.clone());
                self.cache.insert(kind, value, entry);
            }
        }
        for kind in Kind::ALL {
            self.cache.answered(kind);
        }
        self.settle(now);
        Ok(kept - waiting.len())
    }

    /// Whether the first configuration is complete.
    pub fn complete(&self) -> bool {
        self.cache.readiness() == Readiness::Complete
    }

    /// Lets time pass: a listener or cluster that waited too long for what it refers to goes live without.
    pub fn tick(&mut self, now: Nanos) {
        self.settle(now);
    }

    /// Requests need these clusters, to which nothing in the configuration need refer.
    pub fn demand(&mut self, names: impl IntoIterator<Item = Str>, now: Nanos) {
        names.into_iter().for_each(|name| self.cache.demand(&name));
        self.settle(now);
    }

    /// When [`Client::tick`] should be called next, if ever.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.cache.next_deadline()
    }

    fn settle(&mut self, now: Nanos) {
        self.cache.settle(now);
        for kind in [Kind::Endpoints, Kind::Route, Kind::Extension, Kind::Secret] {
            self.session.want(kind, self.cache.wanted(kind));
        }
        self.session.want(Kind::Cluster, self.cache.demanded().clone());
        if self.cache.scoped() {
            self.session.want_all(Kind::Scope);
        }
    }

    /// The next request to send, if any.
    pub fn next_request(&mut self) -> Option<ads_pb::DeltaDiscoveryRequest> {
        self.session.next_request()
    }

    /// The configuration, when it changed since the last call.
    pub fn take_update(&mut self) -> Option<Config> {
        self.cache.take_update()
    }

    /// What is held, for `/config_dump`.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }
}

fn wildcards(ads: Option<&AdsConfig>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if let Some(ads) = ads {
        kinds.extend(ads.clusters.map(|_| Kind::Cluster));
        kinds.extend(ads.listeners.map(|_| Kind::Listener));
    }
    kinds
}

fn join(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("; ")
}
