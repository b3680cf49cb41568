//! The delta discovery protocol without I/O: responses in, requests and configuration out, time as a parameter.
//!
//! [`session`] keeps one stream's subscriptions, nonces and versions; [`cache`] keeps what was accepted and decides when
//! it is warm; [`Client`] joins them. The last accepted state of every resource stays in force whatever the control
//! plane sends or fails to send, and across streams.

pub mod cache;
mod references;
pub mod session;

use envoy_types::pb::envoy::service::discovery::v3 as ads_pb;
use tulle_config::{AdsConfig, Bootstrap, Config};
use tulle_core::{Nanos, Str};

use crate::decode::{self, Finding, Kind, Resource};
use cache::{Cache, Entry};
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
}

impl Client {
    /// A client that knows the static resources; `ads` is `None` when they are everything there is.
    pub fn new(bootstrap: &Bootstrap) -> Self {
        let ads = bootstrap.ads.as_ref();
        let fetch = ads.and_then(|ads| ads.initial_fetch_timeout);
        Client {
            session: Session::new(&bootstrap.node, wildcards(ads)),
            cache: Cache::new(bootstrap, wildcards(ads), fetch),
        }
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
        let hash = tulle_core::xxh64(&body.value, 0);
        if self.cache.holds(kind, &name, hash) {
            self.session.accept(kind, &name, resource.version);
            handled.accepted += 1;
            return;
        }
        let read = match body.value.len() {
            ..=LARGEST => decode::resource(kind, &body).map_err(|findings| join(&findings)),
            size => Err(format!("{size} bytes, and at most {LARGEST} are taken")),
        };
        let decoded = read.and_then(|(value, warnings)| {
            if &**value.name() != name.as_str() {
                return Err(format!("the resource calls itself {:?}", value.name()));
            }
            self.cache.check(kind, &name)?;
            match &value {
                Resource::Scope(scope) => self.cache.check_scope(scope)?,
                Resource::Extension(name, extension) => self.cache.check_extension(name, extension)?,
                _ => {}
            }
            Ok((value, warnings))
        });
        match decoded {
            Ok((value, warnings)) => {
                handled.warnings.extend(warnings.iter().map(|warning| format!("{name}: {warning}")));
                handled.accepted += 1;
                self.session.accept(kind, &name, resource.version.clone());
                self.cache.insert(kind, value, Entry::new(resource.version, hash, body, now));
            }
            Err(reason) => {
                let text = format!("{name}: {reason}");
                self.cache.refused(kind, &name, resource.version, text.clone(), now);
                handled.refused.push(text);
            }
        }
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
        kinds.extend(ads.clusters.then_some(Kind::Cluster));
        kinds.extend(ads.listeners.then_some(Kind::Listener));
    }
    kinds
}

fn join(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("; ")
}
