//! The TCP proxy: connections forwarded byte by byte to one cluster or a weighted choice of clusters.

use std::time::Duration;

use tulle_core::Str;
use tulle_route::HeaderMutation;
use tulle_telemetry::TextFormat;

use crate::access_log::AccessLog;

#[derive(Clone, Debug)]
pub struct TcpProxy {
    pub stat_prefix: Str,
    /// Never empty; weights sum to more than 0.
    pub clusters: Vec<WeightedTcpCluster>,
    /// Sum of the weights of `clusters`.
    pub total_weight: u32,
    /// No bytes in either direction for this long closes the connection; `None` never. Envoy's default is 1 h.
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    /// Connection attempts in all, at least 1.
    pub max_connect_attempts: u32,
    /// Endpoint choice follows a hash of the source address (Envoy's only TCP hash policy).
    pub hash_source_ip: bool,
    pub access_logs: Vec<AccessLog>,
    /// The port to call on the host that the client's server name says, where a cluster asks for one.
    pub sni_port: Option<u16>,
    /// The client's server name, where there is one, names the cluster.
    pub sni_cluster: bool,
    /// The bytes go through an HTTP tunnel.
    pub tunneling: Option<Box<Tunneling>>,
}

/// What a proxy at the endpoint is asked for with CONNECT (RFC 9110 §9.3.6).
#[derive(Clone, Debug)]
pub struct Tunneling {
    /// Where to, with its port.
    pub target: TextFormat,
    pub headers: Box<[HeaderMutation]>,
}

#[derive(Clone, Debug)]
pub struct WeightedTcpCluster {
    pub name: Str,
    pub weight: u32,
    /// Labels for subset load balancing (`metadata_match` under `envoy.lb`), sorted by key.
    pub subset: Box<[(Str, Str)]>,
}

impl TcpProxy {
    /// The cluster that `ticket` (any number below `total_weight`; larger ones wrap) falls to.
    pub fn choose(&self, ticket: u32) -> &WeightedTcpCluster {
        let mut left = ticket % self.total_weight;
        for cluster in &self.clusters {
            if left < cluster.weight {
                return cluster;
            }
            left -= cluster.weight;
        }
        // Unreachable while total_weight is the sum, which the decoder guarantees.
        &self.clusters[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str, weight: u32) -> WeightedTcpCluster {
        WeightedTcpCluster { name: name.into(), weight, subset: Box::default() }
    }

    #[test]
    fn tickets_fall_by_weight() {
        let proxy = TcpProxy {
            stat_prefix: "tcp".into(),
            clusters: vec![cluster("a", 9), cluster("zero", 0), cluster("b", 1)],
            total_weight: 10,
            idle_timeout: None,
            max_connection_duration: None,
            max_connect_attempts: 1,
            hash_source_ip: false,
            access_logs: vec![],
            sni_port: None,
            sni_cluster: false,
            tunneling: None,
        };
        let to_b = (0..10).filter(|ticket| &*proxy.choose(*ticket).name == "b").count();
        let to_zero = (0..10).filter(|ticket| &*proxy.choose(*ticket).name == "zero").count();
        assert_eq!((to_b, to_zero), (1, 0));
    }
}
