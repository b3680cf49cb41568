//! Istio's standard metrics, with their names, labels and buckets, cached per worker so that a request pays one lookup.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::Duration;

use tulle_core::ResponseFlags;

use crate::labels::{KeyHasher, Numbered, text};
pub use crate::labels::{Label, PeerLabels, ServiceLabels};
use crate::registry::{Counter, Histogram, Registry, Sheet};

/// Envoy's default histogram buckets, which Istio's metrics use.
pub const BUCKETS: &[f64] = &[
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0, 30000.0, 60000.0, 300000.0,
    600000.0, 1800000.0, 3600000.0,
];

/// Which of the two proxies reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    Source,
    Destination,
}

/// The `connection_security_policy` label; a client-side proxy reports `unknown`, as Istio's does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    Unknown,
    None,
    MutualTls,
}

/// The `request_protocol` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestProtocol {
    Http,
    Grpc,
    Tcp,
}

/// A peer's labels, interned by `IstioMetrics::peer`; valid for that worker only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerRef(u32);

/// A service's labels, interned by `IstioMetrics::service`; valid for that worker only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceRef(u32);

/// Everything that distinguishes the series of an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    pub reporter: Reporter,
    pub source: PeerRef,
    pub destination: PeerRef,
    pub service: ServiceRef,
    pub protocol: RequestProtocol,
    pub security: Security,
    /// 0 when the client left before a response.
    pub response_code: u16,
    pub flags: ResponseFlags,
    /// The gRPC status, for gRPC.
    pub grpc_status: Option<u16>,
}

/// One finished request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestSample {
    pub duration: Duration,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

/// The series of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    pub reporter: Reporter,
    pub source: PeerRef,
    pub destination: PeerRef,
    pub service: ServiceRef,
    pub security: Security,
    pub flags: ResponseFlags,
}

/// Slots of one request series.
#[derive(Clone, Copy, Debug)]
struct RequestSeries {
    total: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

/// Slots of one connection series.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionSeries {
    pub opened: Counter,
    pub closed: Counter,
    /// Bytes sent to the downstream.
    pub sent: Counter,
    /// Bytes received from the downstream.
    pub received: Counter,
}

/// One worker's way to Istio's metrics.
#[derive(Debug)]
pub struct IstioMetrics {
    registry: Registry,
    peers: Numbered<PeerLabels>,
    services: Numbered<ServiceLabels>,
    requests: HashMap<RequestKey, RequestSeries, BuildHasherDefault<KeyHasher>>,
    connections: HashMap<ConnectionKey, ConnectionSeries, BuildHasherDefault<KeyHasher>>,
}

impl IstioMetrics {
    pub fn new(registry: Registry) -> Self {
        IstioMetrics {
            registry,
            peers: Numbered::new(),
            services: Numbered::new(),
            requests: HashMap::default(),
            connections: HashMap::default(),
        }
    }

    /// Call once per connection or endpoint and keep the result.
    pub fn peer(&mut self, labels: &PeerLabels) -> PeerRef {
        PeerRef(self.peers.number(labels))
    }

    /// Call once per cluster and keep the result.
    pub fn service(&mut self, labels: &ServiceLabels) -> ServiceRef {
        ServiceRef(self.services.number(labels))
    }

    /// Counts a finished request; allocates only when its series is new to this worker.
    pub fn record(&mut self, sheet: &Sheet, key: &RequestKey, sample: &RequestSample) {
        let series = match self.requests.get(key) {
            Some(series) => *series,
            None => {
                let made = self.resolve_request(key);
                self.requests.insert(*key, made);
                made
            }
        };
        sheet.inc(series.total);
        sheet.observe(series.duration, sample.duration.as_secs_f64() * 1000.0);
        sheet.observe(series.request_bytes, sample.request_bytes as f64);
        sheet.observe(series.response_bytes, sample.response_bytes as f64);
    }

    /// The slots of a TCP connection's series.
    pub fn connection(&mut self, key: &ConnectionKey) -> ConnectionSeries {
        if let Some(series) = self.connections.get(key) {
            return *series;
        }
        let flags = key.flags.to_string();
        let mut labels = self.common(key.reporter, key.source, key.destination, key.service);
        labels.extend([
            ("request_protocol", "tcp"),
            ("response_flags", flags.as_str()),
            ("connection_security_policy", key.security.text()),
        ]);
        let counter = |name, help| self.registry.counter(name, help, &labels);
        let series = ConnectionSeries {
            opened: counter("istio_tcp_connections_opened_total", "TCP connections opened."),
            closed: counter("istio_tcp_connections_closed_total", "TCP connections closed."),
            sent: counter("istio_tcp_sent_bytes_total", "Bytes sent in response on TCP connections."),
            received: counter("istio_tcp_received_bytes_total", "Bytes received in request on TCP connections."),
        };
        self.connections.insert(*key, series);
        series
    }

    fn resolve_request(&self, key: &RequestKey) -> RequestSeries {
        let code = key.response_code.to_string();
        let grpc = key.grpc_status.map(|status| status.to_string()).unwrap_or_default();
        let flags = key.flags.to_string();
        let mut labels = self.common(key.reporter, key.source, key.destination, key.service);
        labels.extend([
            ("request_protocol", key.protocol.text()),
            ("response_code", code.as_str()),
            ("grpc_response_status", grpc.as_str()),
            ("response_flags", flags.as_str()),
            ("connection_security_policy", key.security.text()),
        ]);
        let histogram = |name, help| self.registry.histogram(name, help, BUCKETS, &labels);
        RequestSeries {
            total: self.registry.counter("istio_requests_total", "Requests.", &labels),
            duration: histogram("istio_request_duration_milliseconds", "Duration of requests in milliseconds."),
            request_bytes: histogram("istio_request_bytes", "Size of request bodies in bytes."),
            response_bytes: histogram("istio_response_bytes", "Size of response bodies in bytes."),
        }
    }

    fn common(
        &self,
        reporter: Reporter,
        source: PeerRef,
        destination: PeerRef,
        service: ServiceRef,
    ) -> Vec<(&'static str, &str)> {
        let reporter = match reporter {
            Reporter::Source => "source",
            Reporter::Destination => "destination",
        };
        let source = &self.peers.items[source.0 as usize];
        let destination = &self.peers.items[destination.0 as usize];
        let service = &self.services.items[service.0 as usize];
        vec![
            ("reporter", reporter),
            ("source_workload", text(&source.workload)),
            ("source_canonical_service", text(&source.canonical_service)),
            ("source_canonical_revision", text(&source.canonical_revision)),
            ("source_workload_namespace", text(&source.namespace)),
            ("source_principal", text(&source.principal)),
            ("source_app", text(&source.app)),
            ("source_version", text(&source.version)),
            ("source_cluster", text(&source.cluster)),
            ("destination_workload", text(&destination.workload)),
            ("destination_workload_namespace", text(&destination.namespace)),
            ("destination_principal", text(&destination.principal)),
            ("destination_app", text(&destination.app)),
            ("destination_version", text(&destination.version)),
            ("destination_service", text(&service.service)),
            ("destination_canonical_service", text(&destination.canonical_service)),
            ("destination_canonical_revision", text(&destination.canonical_revision)),
            ("destination_service_name", text(&service.name)),
            ("destination_service_namespace", text(&service.namespace)),
            ("destination_cluster", text(&destination.cluster)),
        ]
    }
}

impl Security {
    fn text(self) -> &'static str {
        match self {
            Security::Unknown => "unknown",
            Security::None => "none",
            Security::MutualTls => "mutual_tls",
        }
    }
}

impl RequestProtocol {
    fn text(self) -> &'static str {
        match self {
            RequestProtocol::Http => "http",
            RequestProtocol::Grpc => "grpc",
            RequestProtocol::Tcp => "tcp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tulle_core::PeerIdentity;

    #[test]
    fn a_request_shows_up_under_istios_name_and_labels() {
        let registry = Registry::new();
        let sheet = registry.sheet();
        let mut metrics = IstioMetrics::new(registry.clone());
        let identity = PeerIdentity {
            spiffe: "spiffe://cluster.local/ns/default/sa/web".parse().ok(),
            workload: Some("web-v1".into()),
            app: Some("web".into()),
            version: None,
        };
        let source = metrics.peer(&PeerLabels::from_identity(&identity));
        let destination = metrics.peer(&PeerLabels::from_metadata("backend-v1;default;backend;v1;", None));
        let service = metrics.service(&ServiceLabels { name: Some("backend".into()), ..Default::default() });
        let key = RequestKey {
            reporter: Reporter::Source,
            source,
            destination,
            service,
            protocol: RequestProtocol::Http,
            security: Security::Unknown,
            response_code: 503,
            flags: ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
            grpc_status: None,
        };
        let sample = RequestSample { duration: Duration::from_millis(7), request_bytes: 0, response_bytes: 91 };
        metrics.record(&sheet, &key, &sample);
        metrics.record(&sheet, &key, &sample);
        let mut text = String::new();
        crate::prometheus::render(&registry, &mut text);
        let line = text.lines().find(|line| line.starts_with("istio_requests_total{")).unwrap();
        for part in [
            "reporter=\"source\"",
            "source_principal=\"spiffe://cluster.local/ns/default/sa/web\"",
            "source_canonical_revision=\"latest\"",
            "destination_version=\"v1\"",
            "destination_cluster=\"unknown\"",
            "response_code=\"503\"",
            "response_flags=\"UF\"",
            "} 2",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(text.contains("le=\"10\"} 2\n") && text.contains("istio_request_duration_milliseconds_sum"));
    }
}
