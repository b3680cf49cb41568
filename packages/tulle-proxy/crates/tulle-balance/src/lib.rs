//! Which endpoint a request goes to: pure, per-worker, without atomics.
//!
//! `EndpointSet` is the immutable, shareable description that arrives from the control plane. Each worker builds a
//! `Balancer` from it; hosts are `Rc<Host>` with plain cells, and survive updates that do not change them.

pub mod balancer;
mod bounded;
pub mod config;
pub mod consistent;
pub mod edf;
pub mod endpoints;
pub mod host;
pub mod load;
pub mod outlier;
mod pool;
mod subset;
mod view;
pub mod zone;

pub use balancer::{Balancer, NoHost, PickContext};
pub use config::{
    LbConfig, LbPolicy, ListLabels, LocalityMode, PeakEwma, Selection, SlowStart, SubsetConfig, SubsetFallback,
    SubsetLocalities, SubsetSelector, ZoneAware, ZoneBasis,
};
pub use endpoints::{CheckAt, Endpoint, EndpointMetadata, EndpointSet, Health, Labels, Locality, LocalityEndpoints};
pub use host::{ActiveRequest, Host, HostId};
pub use outlier::{EjectionReason, HostResult, OutlierConfig, OutlierDetector, OutlierEvent};
pub use zone::LocalCluster;
