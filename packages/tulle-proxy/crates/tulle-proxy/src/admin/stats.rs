//! `/stats` and `/stats/prometheus`.

use std::fmt::Write as _;

use http::StatusCode;
use tulle_telemetry::prometheus;

use super::{Admin, Answer, Query, TEXT, breakers};

const EXPIRY: &str = "tulle_identity_expiry_timestamp_seconds";

pub fn prometheus(admin: &Admin) -> Answer {
    let mut body = String::new();
    prometheus::render(&admin.registry, &mut body);
    breakers::render(&admin.config(), &admin.breakers, &mut body);
    if let Some(expires) = admin.identity.get().and_then(|identity| identity.expires()) {
        let _ = write!(body, "# TYPE {EXPIRY} gauge\n{EXPIRY} {expires}\n");
    }
    Answer { status: StatusCode::OK, content_type: prometheus::CONTENT_TYPE, body }
}

/// Envoy's plain form, `cluster.<name>.upstream_rq_total: 5`; series with no such name keep their labels.
pub fn answer(admin: &Admin, query: Query<'_>) -> Answer {
    if query.get("format") == Some("prometheus") {
        return prometheus(admin);
    }
    let filter = query.get("filter").unwrap_or_default();
    let used_only = query.has("usedonly");
    let exposition = prometheus(admin).body;
    let mut body = String::new();
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = plain_name(series);
        if name.contains(filter) && !(used_only && value == "0") {
            let _ = writeln!(body, "{name}: {value}");
        }
    }
    Answer { status: StatusCode::OK, content_type: TEXT, body }
}

/// The scopes that Envoy's Prometheus names fold into a label.
const SCOPES: [(&str, &str, &str); 3] = [
    ("envoy_cluster_", "envoy_cluster_name", "cluster"),
    ("envoy_http_", "envoy_http_conn_manager_prefix", "http"),
    ("envoy_listener_", "envoy_listener_address", "listener"),
];

fn plain_name(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else { return series.to_owned() };
    let labels = labels.trim_end_matches('}');
    for (prefix, label, scope) in SCOPES {
        let quoted = labels.strip_prefix(label).and_then(|rest| rest.strip_prefix("=\""));
        let (Some(rest), Some(quoted)) = (name.strip_prefix(prefix), quoted) else { continue };
        // Only when the scope's label is the only one; a value may itself hold escaped quotes.
        if let Some(value) = quoted.strip_suffix('"').filter(|value| !value.contains('"')) {
            return format!("{scope}.{value}.{rest}");
        }
    }
    series.to_owned()
}

#[cfg(test)]
mod tests {
    use super::plain_name;

    #[test]
    fn scopes_come_back_into_the_name() {
        let cases = [
            (
                r#"envoy_cluster_upstream_rq_total{envoy_cluster_name="outbound|80||a"}"#,
                "cluster.outbound|80||a.upstream_rq_total",
            ),
            (r#"istio_requests_total{reporter="source"}"#, r#"istio_requests_total{reporter="source"}"#),
            (
                r#"envoy_cluster_x{envoy_cluster_name="a",other="b"}"#,
                r#"envoy_cluster_x{envoy_cluster_name="a",other="b"}"#,
            ),
            ("plain", "plain"),
        ];
        for (series, expected) in cases {
            assert_eq!(plain_name(series), expected);
        }
    }
}
