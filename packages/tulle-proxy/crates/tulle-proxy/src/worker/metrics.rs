//! One worker's numbers: Istio's request metrics, with peers and services looked up once each, and Envoy's statistics.

use std::cell::{OnceCell, RefCell};

use tulle_balance::Endpoint;
use tulle_config::{Cluster, Node};
use tulle_core::hash::FastMap;
use tulle_core::metadata::{Struct, Value};
use tulle_core::{PeerIdentity, Str};
use tulle_policy::rbac::{Rbac, Verdict};
use tulle_telemetry::envoy::{
    ClusterStats, ConnectionLimitStats, HttpStats, ListenerStats, RateLimitStats, ShadowStats,
};
use tulle_telemetry::istio::{ConnectionKey, ConnectionSeries, PeerRef, ServiceRef};
use tulle_telemetry::{IstioMetrics, PeerLabels, Registry, RequestKey, RequestSample, Scoped, ServiceLabels, Sheet};

use super::{Launch, Target};

/// Numbers that belong to a cluster.
pub struct TargetMetrics {
    pub service: ServiceRef,
    pub stats: Scoped<ClusterStats>,
    rate_limits: OnceCell<Scoped<RateLimitStats>>,
}

pub struct Metrics {
    registry: Registry,
    pub sheet: Sheet,
    istio: RefCell<IstioMetrics>,
    endpoints: RefCell<FastMap<Str, PeerRef>>,
    http: RefCell<FastMap<Str, HttpStats>>,
    listeners: RefCell<FastMap<Str, ListenerStats>>,
    connection_limits: RefCell<FastMap<Str, ConnectionLimitStats>>,
    /// By the filter's prefix and the policy.
    shadows: RefCell<FastMap<(Str, Str), ShadowStats>>,
    /// This workload.
    pub own: PeerRef,
    pub unknown: PeerRef,
    pub no_service: ServiceRef,
}

impl Metrics {
    pub fn new(launch: &Launch) -> Metrics {
        let registry = launch.registry.clone();
        let mut istio = IstioMetrics::new(registry.clone());
        let own = istio.peer(&own_labels(&launch.node, launch.principal.as_deref()));
        let unknown = istio.peer(&PeerLabels::default());
        let no_service = istio.service(&ServiceLabels::default());
        Metrics {
            sheet: registry.sheet(),
            registry,
            istio: RefCell::new(istio),
            endpoints: RefCell::default(),
            http: RefCell::default(),
            listeners: RefCell::default(),
            connection_limits: RefCell::default(),
            shadows: RefCell::default(),
            own,
            unknown,
            no_service,
        }
    }

    pub fn target(&self, cluster: &Cluster) -> TargetMetrics {
        TargetMetrics {
            service: self.istio.borrow_mut().service(&service_labels(cluster)),
            stats: ClusterStats::resolve(&self.registry, &cluster.stat_name),
            rate_limits: OnceCell::new(),
        }
    }

    /// A client's labels, from its certificate: once per connection.
    pub fn peer(&self, identity: &PeerIdentity) -> PeerRef {
        self.istio.borrow_mut().peer(&PeerLabels::from_identity(identity))
    }

    /// An endpoint's labels, from its metadata.
    pub fn endpoint(&self, endpoint: &Endpoint) -> PeerRef {
        let Some(workload) = &endpoint.metadata.workload else { return self.unknown };
        if let Some(known) = self.endpoints.borrow().get(workload) {
            return *known;
        }
        let made = self.istio.borrow_mut().peer(&PeerLabels::from_metadata(workload, None));
        self.endpoints.borrow_mut().insert(workload.clone(), made);
        made
    }

    pub fn http(&self, stat_prefix: &Str) -> HttpStats {
        let mut known = self.http.borrow_mut();
        if let Some(found) = known.get(stat_prefix) {
            return *found;
        }
        *known.entry(stat_prefix.clone()).or_insert_with(|| HttpStats::resolve(&self.registry, stat_prefix).forever())
    }

    pub fn listener(&self, stat_prefix: &Str) -> ListenerStats {
        let mut known = self.listeners.borrow_mut();
        if let Some(found) = known.get(stat_prefix) {
            return *found;
        }
        *known
            .entry(stat_prefix.clone())
            .or_insert_with(|| ListenerStats::resolve(&self.registry, stat_prefix).forever())
    }

    pub fn connection_limit(&self, stat_prefix: &Str) -> ConnectionLimitStats {
        let resolve = || ConnectionLimitStats::resolve(&self.registry, stat_prefix).forever();
        *self.connection_limits.borrow_mut().entry(stat_prefix.clone()).or_insert_with(resolve)
    }

    /// Of the requests to a cluster that a rate-limit service was asked about.
    pub fn rate_limits<'t>(&self, target: &'t Target) -> &'t RateLimitStats {
        let resolve = || RateLimitStats::resolve(&self.registry, &target.upstream.config_ref().stat_name);
        target.metrics.rate_limits.get_or_init(resolve)
    }

    /// What shadow rules would have done, in all and, where that is asked for, by policy.
    pub fn shadow(&self, of: &HttpStats, rbac: &Rbac, verdict: Verdict<'_>) {
        let denied = verdict.is_denied();
        self.sheet.inc(if denied { of.rbac_shadow_denied } else { of.rbac_shadow_allowed });
        if !rbac.counted_by_policy {
            return;
        }
        let policy = verdict.policy().cloned().unwrap_or_else(|| "none".into());
        let key = (rbac.shadow_prefix.clone(), policy);
        let mut known = self.shadows.borrow_mut();
        let stats = match known.get(&key) {
            Some(found) => *found,
            None => {
                let made = ShadowStats::resolve(&self.registry, &key.0, &key.1);
                *known.entry(key).or_insert(made)
            }
        };
        self.sheet.inc(if denied { stats.denied } else { stats.allowed });
    }

    pub fn request(&self, key: &RequestKey, sample: &RequestSample) {
        self.istio.borrow_mut().record(&self.sheet, key, sample);
    }

    pub fn connection(&self, key: &ConnectionKey) -> ConnectionSeries {
        self.istio.borrow_mut().connection(key)
    }
}

/// The labels of this workload, as its bootstrap's node metadata tells them in Istio's words.
fn own_labels(node: &Node, principal: Option<&str>) -> PeerLabels {
    let text = |key: &str| node.metadata.get(key).and_then(Value::as_str).map(Str::from);
    let label = |key: &str| {
        let labels = node.metadata.get("LABELS").and_then(Value::as_struct);
        labels.and_then(|labels| labels.get(key)).and_then(Value::as_str).map(Str::from)
    };
    let workload = text("WORKLOAD_NAME");
    let (app, version) = (label("app"), label("version"));
    PeerLabels {
        namespace: text("NAMESPACE"),
        principal: principal.map(Str::from),
        cluster: text("CLUSTER_ID"),
        canonical_service: app.clone().or_else(|| workload.clone()),
        canonical_revision: Some(version.clone().unwrap_or_else(|| "latest".into())),
        workload,
        app,
        version,
    }
}

/// The service that a cluster's metadata names first.
fn service_labels(cluster: &Cluster) -> ServiceLabels {
    let services = cluster.metadata.filter("istio").and_then(|istio| istio.get("services"));
    let first: Option<&Struct> = services.and_then(Value::as_list).and_then(|all| all.first()?.as_struct());
    let text = |key: &str| first.and_then(|service| service.get(key)).and_then(Value::as_str).map(Str::from);
    ServiceLabels { service: text("host"), name: text("name"), namespace: text("namespace") }
}
