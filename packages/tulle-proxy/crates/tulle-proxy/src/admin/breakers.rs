//! What is left of circuit-breaker limits, for the clusters that track it (`track_remaining`): Envoy's gauges.

use std::fmt::Write as _;
use std::sync::Arc;

use tulle_config::{Cluster, Config};
use tulle_connect::Breakers;
use tulle_connect::breaker::{Common, Resource};
use tulle_policy::Priority;
use tulle_telemetry::prometheus::Escaped;

const RESOURCES: [(&str, Resource); 4] = [
    ("cx", Resource::Connection),
    ("pending", Resource::Pending),
    ("rq", Resource::Request),
    ("retries", Resource::Retry),
];

/// Appends the gauges in Prometheus' form: of the whole process, as of now.
pub fn render(config: &Config, breakers: &Breakers, out: &mut String) {
    let mut tracked: Vec<(&Arc<Cluster>, Arc<Common>)> = config
        .clusters
        .values()
        .filter(|cluster| cluster.circuit_breakers.tracked())
        .filter_map(|cluster| Some((cluster, breakers.used(&cluster.name)?)))
        .collect();
    tracked.sort_by(|left, right| left.0.name.cmp(&right.0.name));
    for (priority, word) in [(Priority::Default, "default"), (Priority::High, "high")] {
        for (what, resource) in RESOURCES {
            let mut shown = tracked
                .iter()
                .filter(|(cluster, _)| cluster.circuit_breakers.limits(priority).track_remaining)
                .peekable();
            let name = format!("envoy_cluster_circuit_breakers_{word}_remaining_{what}");
            if shown.peek().is_some() {
                let _infallible = writeln!(out, "# HELP {name} What is left of the limit.\n# TYPE {name} gauge");
            }
            for (cluster, common) in shown {
                let left = common.remaining(resource, priority, cluster.circuit_breakers.limits(priority));
                let label = Escaped(&cluster.stat_name);
                let _infallible = writeln!(out, "{name}{{envoy_cluster_name=\"{label}\"}} {left}");
            }
        }
    }
}
