//! What the control plane has sent and was accepted: warming, last good state, and the configuration made from it.

mod checks;
mod files;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use tulle_config::store::Resources;
use tulle_config::{Bootstrap, Cluster, Config, Listener, Patience, Readiness, Source};
use tulle_core::{Nanos, Str};
use tulle_route::scopes::{Scope, Scopes};

use super::beginning::{Beginning, Unanswered, wildcards};
use super::references::{self, Need, Reference};
use super::saved::{Recorder, Unsaved};
use crate::bootstrap::Packed;
use crate::decode::{Kind, Resource};

/// How many clusters requests may ask for: names can come from clients.
const MAX_DEMANDED: usize = 4096;
/// How many clusters are remembered as not being there, for the requests that wait for them.
const MAX_UNKNOWN: usize = 1024;

/// What is kept about an accepted resource beside its value.
#[derive(Clone, Debug)]
pub struct Entry {
    pub version: String,
    pub updated: Nanos,
    /// As received. Endpoints and secrets are not kept: the ones are many, the others secret.
    pub packed: Option<Packed>,
    hash: u64,
    /// It was read from a file, which will be there again.
    from_file: bool,
}

impl Entry {
    pub fn new(version: String, hash: u64, body: &Any, now: Nanos) -> Self {
        let kept = Kind::from_type_url(&body.type_url).filter(|kind| !matches!(kind, Kind::Endpoints | Kind::Secret));
        let packed = kept.map(|kind| Packed { type_url: kind.type_url().into(), bytes: body.value.as_slice().into() });
        Entry { version, updated: now, packed, hash, from_file: false }
    }

    /// The same from a file.
    pub fn of_file(self) -> Self {
        Entry { from_file: true, ..self }
    }
}

/// The last refused update of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub version: String,
    pub details: String,
    pub at: Nanos,
}

/// How far a listener or cluster has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Active,
    /// Accepted, and waiting for what it refers to; what was active before still is.
    Warming,
}

/// All accepted resources and what they wait for.
pub struct Cache {
    config: Config,
    changed: bool,
    /// Names that the bootstrap defines and nobody else may.
    statics: HashSet<Reference>,
    warming_listeners: HashMap<Str, Arc<Listener>>,
    warming_clusters: HashMap<Str, Arc<Cluster>>,
    entries: HashMap<Reference, Entry>,
    refusals: HashMap<Reference, Refusal>,
    /// Since when a name is wanted and has not arrived.
    waiting: HashMap<Reference, Nanos>,
    /// Names that the control plane said it does not have.
    absent: HashSet<Reference>,
    /// What is referred to, and where it comes from.
    wanted: HashMap<Reference, Source>,
    /// Those received, by name; the configuration has them by key.
    scopes: HashMap<Str, Arc<Scope>>,
    /// Clusters that requests asked for, and how many such questions were answered with no.
    demanded: BTreeSet<Str>,
    denials: u64,
    /// A listener has asked for scopes.
    scoped: bool,
    /// Wildcard types whose first response has not come.
    unanswered: HashMap<Kind, Unanswered>,
    beginning: Beginning,
    /// Nothing can come: nothing is waited for.
    alone: bool,
    recorder: Recorder,
}

impl Cache {
    pub fn new(bootstrap: &Bootstrap) -> Self {
        let statics = &bootstrap.resources;
        let listeners = statics.listeners.iter().map(|listener| (listener.name.clone(), listener.clone()));
        let clusters = statics.clusters.iter().map(|cluster| (cluster.name.clone(), cluster.clone()));
        let mut cache = Cache {
            config: Config::default(),
            changed: true,
            statics: HashSet::new(),
            warming_listeners: listeners.collect(),
            warming_clusters: clusters.collect(),
            entries: HashMap::new(),
            refusals: HashMap::new(),
            waiting: HashMap::new(),
            absent: HashSet::new(),
            wanted: HashMap::new(),
            scopes: HashMap::new(),
            demanded: BTreeSet::new(),
            denials: 0,
            scoped: false,
            unanswered: wildcards(bootstrap).collect(),
            beginning: Beginning::Clusters,
            alone: bootstrap.ads.is_none(),
            recorder: Recorder::default(),
        };
        let listeners = cache.warming_listeners.keys().map(|name| (Kind::Listener, name.clone()));
        let clusters = cache.warming_clusters.keys().map(|name| (Kind::Cluster, name.clone()));
        let secrets = statics.secrets.iter().map(|(name, _)| (Kind::Secret, name.clone()));
        cache.statics = listeners.chain(clusters).chain(secrets).collect();
        cache.config.secrets = Arc::new(statics.secrets.iter().cloned().collect());
        cache.settle(Nanos::ZERO);
        cache
    }

    /// Starts the clock of the first answers.
    pub fn stream_opened(&mut self, now: Nanos) {
        for first in self.unanswered.values_mut() {
            first.since.get_or_insert(now);
        }
    }

    /// A response of this kind was handled, be it empty.
    pub fn answered(&mut self, kind: Kind) {
        self.unanswered.remove(&kind);
    }

    /// Whether the first answer of a kind of which everything is asked for has not come.
    pub fn is_unanswered(&self, kind: Kind) -> bool {
        self.unanswered.contains_key(&kind)
    }

    /// Whether this very content is held already.
    pub fn holds(&self, kind: Kind, name: &str, hash: u64) -> bool {
        self.entries.get(&(kind, Str::from(name))).is_some_and(|entry| entry.hash == hash)
    }

    /// What is recorded for the disk.
    pub fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    /// The content that is held already has come again, in this version.
    pub fn confirm(&mut self, kind: Kind, name: &str, version: String, body: Any) {
        let reference = (kind, Str::from(name));
        if let Some(entry) = self.entries.get_mut(&reference) {
            entry.version = version;
        }
        self.recorder.record(reference, body);
    }

    /// What is to be kept on disk, once after each change. `None` too while anything is still waited for: what is kept
    /// must be complete.
    pub fn unsaved(&mut self) -> Option<Unsaved> {
        let warm = self.warming_listeners.is_empty() && self.warming_clusters.is_empty();
        if !warm || self.config.readiness == Readiness::Initializing {
            return None;
        }
        let kept = self.entries.iter().filter(|(_, entry)| !entry.from_file);
        self.recorder.take(kept.map(|(name, entry)| (name, &*entry.version, entry.hash)))
    }

    /// Whether something refers to this resource, or it needs nobody to.
    pub fn takes(&self, kind: Kind, name: &Str) -> bool {
        match kind {
            Kind::Listener | Kind::Cluster | Kind::Scope => true,
            Kind::Route | Kind::Endpoints | Kind::Extension | Kind::Secret => {
                self.wanted.contains_key(&(kind, name.clone()))
            }
        }
    }

    /// Takes an accepted resource; [`Cache::settle`] makes it active when it is warm.
    pub fn insert(&mut self, kind: Kind, resource: Resource, entry: Entry) {
        let name = resource.name().clone();
        self.insert_as(kind, name, resource, entry);
    }

    /// The same under another name than the resource calls itself: see [`tulle_config::FileSource`].
    pub fn insert_as(&mut self, kind: Kind, key: Str, resource: Resource, entry: Entry) {
        let reference = (kind, key.clone());
        self.refusals.remove(&reference);
        self.absent.remove(&reference);
        self.waiting.remove(&reference);
        match resource {
            Resource::Listener(listener) => {
                self.warming_listeners.insert(listener.name.clone(), listener);
            }
            Resource::Cluster(cluster) => {
                self.warming_clusters.insert(cluster.name.clone(), cluster);
            }
            Resource::Scope(scope) => {
                self.scopes.insert(scope.name.clone(), scope);
                self.set_scopes();
            }
            // Nobody refers to it any more: the unsubscription crossed with the response.
            Resource::Route(_) | Resource::Endpoints(..) | Resource::Extension(..) | Resource::Secret(..)
                if !self.takes(kind, &reference.1) =>
            {
                return;
            }
            Resource::Route(route) => self.changed |= set(&mut self.config.routes, key, route),
            Resource::Endpoints(_, set_of) => self.changed |= set(&mut self.config.endpoints, key, set_of),
            Resource::Extension(name, extension) => {
                self.changed |= set(&mut self.config.extensions, name, extension);
            }
            Resource::Secret(_, secret) => self.changed |= set(&mut self.config.secrets, key, secret),
        }
        self.entries.insert(reference, entry);
    }

    /// The control plane no longer has `name`. Listeners and clusters go; what they refer to stays as long as they
    /// refer to it.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        let reference = (kind, Str::from(name));
        if self.statics.contains(&reference) {
            return;
        }
        self.refusals.remove(&reference);
        self.recorder.touch();
        match kind {
            Kind::Listener => {
                self.warming_listeners.remove(name);
                self.changed |= unset(&mut self.config.listeners, name);
                self.entries.remove(&reference);
            }
            Kind::Cluster => {
                self.warming_clusters.remove(name);
                self.changed |= unset(&mut self.config.clusters, name);
                self.entries.remove(&reference);
                self.deny(name);
            }
            Kind::Scope => {
                self.entries.remove(&reference);
                if self.scopes.remove(name).is_some() {
                    self.set_scopes();
                }
            }
            Kind::Route | Kind::Endpoints | Kind::Extension | Kind::Secret => {
                // The content hash goes with it, so that the same content sent again counts as new.
                self.entries.remove(&reference);
                self.absent.insert(reference);
            }
        }
    }

    /// Requests need a cluster: it is asked for where it is not there.
    pub fn demand(&mut self, name: &Str) {
        if self.config.clusters.contains_key(name) || self.statics.contains(&(Kind::Cluster, name.clone())) {
            return;
        }
        let full = self.demanded.len() >= MAX_DEMANDED;
        if self.demanded.insert(name.clone()) && full {
            self.deny(name);
        }
    }

    /// The clusters that requests asked for.
    pub fn demanded(&self) -> &BTreeSet<Str> {
        &self.demanded
    }

    /// Whether scopes are asked for.
    pub fn scoped(&self) -> bool {
        self.scoped
    }

    /// The control plane does not have a cluster that requests asked for. It is asked again when one does again.
    fn deny(&mut self, name: &str) {
        if !self.demanded.remove(name) {
            return;
        }
        self.denials += 1;
        let unknown = Arc::make_mut(&mut self.config.unknown_clusters);
        if unknown.len() >= MAX_UNKNOWN {
            unknown.clear();
        }
        unknown.insert(name.into(), self.denials);
        self.changed = true;
    }

    fn set_scopes(&mut self) {
        // A second scope of a key is refused before it comes here.
        if let Ok(scopes) = Scopes::new(self.scopes.values().cloned()) {
            self.config.scopes = Arc::new(scopes);
            self.changed = true;
        }
    }

    /// Remembers a refused update; the value that was there stays.
    pub fn refused(&mut self, kind: Kind, name: &str, version: String, details: String, now: Nanos) {
        let reference = (kind, Str::from(name));
        // What waited for it goes on without, as Envoy does: a bad resource must not keep the others from starting.
        if self.wanted.contains_key(&reference) && !self.entries.contains_key(&reference) {
            self.waiting.remove(&reference);
            self.absent.insert(reference.clone());
        }
        self.refusals.insert(reference, Refusal { version, details, at: now });
    }

    /// Makes warm resources active, drops what nobody refers to, and notes what is waited for.
    pub fn settle(&mut self, now: Nanos) {
        self.collect_wanted(now);
        self.give_up(now);
        let clusters = self.warm(&self.warming_clusters, references::of_cluster);
        for name in clusters {
            if let Some(cluster) = self.warming_clusters.remove(&name) {
                self.changed |= set(&mut self.config.clusters, name, cluster);
            }
        }
        self.begin(now);
        let listeners = match self.beginning {
            Beginning::Over => self.warm(&self.warming_listeners, references::needed_by_listener),
            Beginning::Clusters | Beginning::Endpoints => Vec::new(),
        };
        for name in listeners {
            if let Some(listener) = self.warming_listeners.remove(&name) {
                self.changed |= set(&mut self.config.listeners, name, listener);
            }
        }
        // An update that went live may have been the last to refer to something.
        self.collect_wanted(now);
        self.drop_unwanted();
        self.settle_readiness();
    }

    fn begin(&mut self, now: Nanos) {
        if self.beginning == Beginning::Clusters {
            let awaited = self
                .unanswered
                .get(&Kind::Cluster)
                .is_some_and(|first| !first.patience.is_over(first.since.unwrap_or(Nanos::ZERO), now));
            if !awaited {
                self.beginning = Beginning::Endpoints;
            }
        }
        if self.beginning == Beginning::Endpoints && self.warming_clusters.is_empty() {
            self.beginning = Beginning::Over;
        }
    }

    /// What was waited for too long counts as absent from here on; it is still taken when it comes.
    fn give_up(&mut self, now: Nanos) {
        self.unanswered.retain(|_, first| !first.is_over(now));
        let (wanted, alone) = (&self.wanted, self.alone);
        let over = |need: &Reference, since: Nanos| patience_of(wanted, alone, need).is_over(since, now);
        let given_up: Vec<Reference> =
            self.waiting.iter().filter(|(need, since)| over(need, **since)).map(|(need, _)| need.clone()).collect();
        for need in given_up {
            self.waiting.remove(&need);
            self.absent.insert(need);
        }
    }

    fn warm<T>(&self, warming: &HashMap<Str, Arc<T>>, needs: fn(&T) -> Vec<Need>) -> Vec<Str> {
        let ready = |value: &T| needs(value).iter().all(|(need, _)| self.resolved(need));
        warming.iter().filter(|(_, value)| ready(value)).map(|(name, _)| name.clone()).collect()
    }

    fn resolved(&self, need: &Reference) -> bool {
        let (kind, name) = need;
        let held = match kind {
            Kind::Route => self.config.routes.contains_key(name),
            Kind::Endpoints => self.config.endpoints.contains_key(name),
            Kind::Extension => self.config.extensions.contains_key(name),
            Kind::Secret => self.config.secrets.contains_key(name),
            Kind::Listener | Kind::Cluster => true,
            Kind::Scope => !self.unanswered.contains_key(kind),
        };
        held || self.absent.contains(need)
    }

    fn collect_wanted(&mut self, now: Nanos) {
        let clusters = self.config.clusters.values().chain(self.warming_clusters.values());
        let listeners = self.config.listeners.values().chain(self.warming_listeners.values());
        let of_scopes = listeners.clone().filter_map(|listener| references::patience_of_scopes(listener)).max();
        let needs = clusters.flat_map(|cluster| references::of_cluster(cluster));
        let needs = needs.chain(listeners.flat_map(|listener| references::of_listener(listener)));
        self.wanted.clear();
        for (need, source) in needs.chain(references::of_scopes(&self.config.scopes, of_scopes.unwrap_or_default())) {
            let longest = match self.wanted.remove(&need) {
                None => source,
                Some(other) => other.or_longer(source),
            };
            self.wanted.insert(need, longest);
        }
        for (need, source) in &self.wanted {
            if need.0 == Kind::Scope {
                if !self.scoped {
                    self.scoped = true;
                    let patience = source.patience();
                    self.unanswered.insert(Kind::Scope, Unanswered { since: Some(now), patience });
                }
                continue;
            }
            if !self.entries.contains_key(need) && !self.absent.contains(need) && !self.waiting.contains_key(need) {
                self.waiting.insert(need.clone(), now);
            }
        }
        self.waiting.retain(|need, _| self.wanted.contains_key(need));
        self.absent.retain(|need| self.wanted.contains_key(need));
    }

    fn drop_unwanted(&mut self) {
        let wanted = &self.wanted;
        let keep = |kind: Kind, name: &Str| wanted.contains_key(&(kind, name.clone()));
        let statics = &self.statics;
        let secrets = |name: &Str| keep(Kind::Secret, name) || statics.contains(&(Kind::Secret, name.clone()));
        self.changed |= retain(&mut self.config.routes, |name| keep(Kind::Route, name));
        self.changed |= retain(&mut self.config.endpoints, |name| keep(Kind::Endpoints, name));
        self.changed |= retain(&mut self.config.extensions, |name| keep(Kind::Extension, name));
        self.changed |= retain(&mut self.config.secrets, secrets);
        let by_reference = |kind: &Kind| matches!(kind, Kind::Route | Kind::Endpoints | Kind::Extension | Kind::Secret);
        let before = self.entries.len();
        self.entries.retain(|reference, _| !by_reference(&reference.0) || wanted.contains_key(reference));
        self.refusals.retain(|reference, _| !by_reference(&reference.0) || wanted.contains_key(reference));
        if self.entries.len() != before {
            self.recorder.touch();
        }
    }

    fn settle_readiness(&mut self) {
        let answered = self.unanswered.is_empty();
        let warm = self.warming_listeners.is_empty() && self.warming_clusters.is_empty();
        if self.config.readiness == Readiness::Initializing && answered && warm {
            self.config.readiness = Readiness::Complete;
            self.changed = true;
        }
    }

    pub fn readiness(&self) -> Readiness {
        self.config.readiness
    }

    /// The names of a kind that something refers to and that a stream is to send.
    pub fn wanted(&self, kind: Kind) -> BTreeSet<Str> {
        let streamed = self.wanted.iter().filter(|(_, source)| matches!(source, Source::Ads(_)));
        streamed.filter(|((of, _), _)| *of == kind).map(|((_, name), _)| name.clone()).collect()
    }

    /// When the oldest wait runs out.
    pub fn next_deadline(&self) -> Option<Nanos> {
        let patience = |need: &Reference| patience_of(&self.wanted, self.alone, need);
        let waits = self.waiting.iter().filter_map(|(need, since)| patience(need).deadline(*since));
        let firsts = self.unanswered.values().filter_map(|first| first.patience.deadline(first.since?));
        let unopened = self
            .unanswered
            .get(&Kind::Cluster)
            .filter(|first| self.beginning == Beginning::Clusters && first.since.is_none());
        waits.chain(firsts).chain(unopened.and_then(|first| first.patience.deadline(Nanos::ZERO))).min()
    }

    /// The configuration, when it changed since the last call.
    pub fn take_update(&mut self) -> Option<Config> {
        std::mem::take(&mut self.changed).then(|| self.config.clone())
    }

    /// Accepted resources of a kind in order of name.
    pub fn entries(&self, kind: Kind) -> Vec<(&Str, &Entry, Stage)> {
        let mut found: Vec<_> = self
            .entries
            .iter()
            .filter(|((of, _), _)| *of == kind)
            .map(|((_, name), entry)| (name, entry, self.stage(kind, name)))
            .collect();
        found.sort_by(|left, right| left.0.cmp(right.0));
        found
    }

    fn stage(&self, kind: Kind, name: &str) -> Stage {
        let warming = match kind {
            Kind::Listener => self.warming_listeners.contains_key(name),
            Kind::Cluster => self.warming_clusters.contains_key(name),
            Kind::Scope | Kind::Route | Kind::Endpoints | Kind::Extension | Kind::Secret => false,
        };
        if warming { Stage::Warming } else { Stage::Active }
    }

    /// The refused updates of a kind in order of name.
    pub fn refusals(&self, kind: Kind) -> Vec<(&Str, &Refusal)> {
        let of_kind = self.refusals.iter().filter(|((of, _), _)| *of == kind);
        let mut found: Vec<_> = of_kind.map(|((_, name), refusal)| (name, refusal)).collect();
        found.sort_by(|left, right| left.0.cmp(right.0));
        found
    }
}

fn set<T>(resources: &mut Resources<T>, name: Str, value: Arc<T>) -> bool {
    Arc::make_mut(resources).insert(name, value);
    true
}

fn unset<T>(resources: &mut Resources<T>, name: &str) -> bool {
    resources.contains_key(name) && Arc::make_mut(resources).remove(name).is_some()
}

fn retain<K: Clone + Eq + Hash, T>(resources: &mut Arc<HashMap<K, Arc<T>>>, keep: impl Fn(&K) -> bool) -> bool {
    if resources.keys().all(&keep) {
        return false;
    }
    Arc::make_mut(resources).retain(|name, _| keep(name));
    true
}

/// What no stream can bring is not waited for.
fn patience_of(wanted: &HashMap<Reference, Source>, alone: bool, need: &Reference) -> Patience {
    match wanted.get(need) {
        Some(Source::Ads(_)) if alone => Patience::NONE,
        Some(source) => source.patience(),
        None => Patience::default(),
    }
}
