//! A cluster's endpoints as configured: `ClusterLoadAssignment` without its protobufs.

use std::sync::Arc;

use tulle_core::{Address, FractionalPercent, Str};

/// What stands before a label's value that is a number or a truth: neither equals the text it is written as.
pub const NO_TEXT: char = '\u{1}';

/// Key-value labels, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Box<[(Str, Str)]>);

impl Labels {
    pub fn new(mut pairs: Vec<(Str, Str)>) -> Self {
        pairs.sort();
        Labels(pairs.into())
    }

    pub fn get(&self, key: &str) -> Option<&Str> {
        self.0.iter().find(|(name, _)| &**name == key).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Str, Str)> {
        self.0.iter()
    }

    /// Whether every pair of `wanted` is among these.
    pub fn contains_all(&self, wanted: &[(Str, Str)]) -> bool {
        wanted.iter().all(|(key, value)| self.get(key) == Some(value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a control plane says about an endpoint beside its address; shared by the endpoints that have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndpointMetadata {
    /// Filter metadata under `envoy.lb`: subset labels.
    pub lb: Labels,
    /// Those of them that are lists, for subsets with `list_as_any`; sorted by key.
    pub lb_lists: Box<[(Str, Box<[Str]>)]>,
    /// Under `envoy.transport_socket_match`, for instance `tlsMode: istio`.
    pub transport: Labels,
    /// Under `istio`, key `workload`: `name;namespace;app;version;cluster`.
    pub workload: Option<Str>,
    /// How its health is checked otherwise than its cluster says.
    pub check: Option<Box<CheckAt>>,
    /// Where else it is, for when a connection to its address does not come about.
    pub more_addresses: Box<[Address]>,
}

/// `envoy.config.endpoint.v3.Endpoint.HealthCheckConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CheckAt {
    /// Instead of the port that requests go to.
    pub port: Option<u16>,
    /// Instead of the address; before `port` is applied.
    pub address: Option<Address>,
    /// Instead of the host that the check names.
    pub hostname: Option<Str>,
    /// Counts as well without being asked.
    pub disabled: bool,
}

/// `envoy.config.core.v3.Locality`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    pub region: Str,
    pub zone: Str,
    pub sub_zone: Str,
}

/// `HealthStatus` of an endpoint; `UNKNOWN` counts as healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    #[default]
    Healthy,
    Degraded,
    Unhealthy,
    /// Not for new requests, like unhealthy; existing ones go on.
    Draining,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    /// `Endpoint.hostname`, for auto host rewrite and health checks.
    pub hostname: Option<Str>,
    /// At least 1.
    pub weight: u32,
    pub health: Health,
    pub metadata: Arc<EndpointMetadata>,
}

impl Endpoint {
    pub fn new(address: impl Into<Address>) -> Self {
        Endpoint {
            address: address.into(),
            hostname: None,
            weight: 1,
            health: Health::Healthy,
            metadata: Arc::default(),
        }
    }
}

/// The endpoints of one locality at one priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityEndpoints {
    pub locality: Locality,
    /// 0 is the highest.
    pub priority: u32,
    /// For locality-weighted balancing; `None` gets no load there.
    pub weight: Option<u32>,
    pub endpoints: Box<[Endpoint]>,
}

/// All endpoints of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSet {
    pub localities: Box<[LocalityEndpoints]>,
    /// How much health counts above its share, in percent; Envoy's default is 140.
    pub overprovisioning: u32,
    /// The weights of hosts, not their number, decide how healthy a priority is.
    pub weighted_health: bool,
    /// Share of the requests that are refused before a host is chosen (`drop_overloads`).
    pub drop: FractionalPercent,
}

impl EndpointSet {
    pub const DEFAULT_OVERPROVISIONING: u32 = 140;

    pub fn new(localities: Vec<LocalityEndpoints>) -> Self {
        EndpointSet {
            localities: localities.into(),
            overprovisioning: Self::DEFAULT_OVERPROVISIONING,
            weighted_health: false,
            drop: FractionalPercent::NEVER,
        }
    }

    /// One locality at priority 0.
    pub fn flat(endpoints: Vec<Endpoint>) -> Self {
        Self::new(vec![LocalityEndpoints { endpoints: endpoints.into(), ..Default::default() }])
    }

    pub fn len(&self) -> usize {
        self.localities.iter().map(|locality| locality.endpoints.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for EndpointSet {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}
