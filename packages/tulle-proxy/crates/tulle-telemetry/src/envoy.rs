//! Envoy-named statistics of clusters and listeners, resolved to slots when first used.

use crate::registry::{Counter, Gauge, Kind, Registry};
use crate::scoped::{Hold, Scoped, Set};

macro_rules! stats {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $label:literal;
     counters { $($counter:ident = $counter_help:literal,)* }
     gauges { $($gauge:ident = $gauge_help:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            $(#[doc = $counter_help] pub $counter: Counter,)*
            $(#[doc = $gauge_help] pub $gauge: Gauge,)*
        }

        impl $name {
            /// The slots for the cluster, listener or manager of this name.
            pub fn resolve(registry: &Registry, name: &str) -> Scoped<Self> {
                static SET: Set = Set {
                    label: $label,
                    members: &[
                        $((concat!($prefix, stringify!($counter)), $counter_help, Kind::Counter),)*
                        $((concat!($prefix, stringify!($gauge)), $gauge_help, Kind::Gauge),)*
                    ],
                };
                let hold = Hold::new(registry, &SET, name);
                let mut slots = hold.slots();
                // In the order of the members, since fields are made in the order in which they are written.
                let stats = $name { $($counter: slots.counter(),)* $($gauge: slots.gauge(),)* };
                Scoped::new(stats, hold)
            }
        }
    };
}

stats! {
    /// `cluster.<name>.*`.
    ClusterStats, "envoy_cluster_", "envoy_cluster_name";
    counters {
        upstream_cx_total = "Connections made.",
        upstream_cx_connect_fail = "Connections that failed.",
        upstream_cx_connect_timeout = "Connections that took too long.",
        upstream_cx_overflow = "Connections refused by the circuit breaker.",
        upstream_rq_total = "Requests sent.",
        upstream_rq_completed = "Requests completed.",
        upstream_rq_2xx = "Responses of class 2xx.",
        upstream_rq_3xx = "Responses of class 3xx.",
        upstream_rq_4xx = "Responses of class 4xx.",
        upstream_rq_5xx = "Responses of class 5xx.",
        upstream_rq_timeout = "Requests that timed out.",
        upstream_rq_per_try_timeout = "Attempts that timed out.",
        upstream_rq_rx_reset = "Requests reset by the upstream.",
        upstream_rq_tx_reset = "Requests reset by the proxy.",
        upstream_rq_retry = "Retries.",
        upstream_rq_retry_success = "Retries that succeeded.",
        upstream_rq_retry_limit_exceeded = "Retries not made because they were used up.",
        upstream_rq_retry_overflow = "Retries not made because of the circuit breaker or budget.",
        upstream_rq_pending_overflow = "Requests refused by the circuit breaker.",
        upstream_cx_none_healthy = "Requests without a healthy host.",
        outlier_detection_ejections_enforced_total = "Hosts ejected.",
    }
    gauges {
        upstream_cx_active = "Open connections.",
        upstream_rq_active = "Requests in flight.",
        upstream_rq_pending_active = "Requests waiting for a connection.",
        membership_total = "Hosts.",
        membership_healthy = "Healthy hosts.",
        outlier_detection_ejections_active = "Hosts ejected now.",
    }
}

stats! {
    /// `cluster.<name>.ratelimit.*`: of the cluster that requests would go to.
    RateLimitStats, "envoy_cluster_ratelimit_", "envoy_cluster_name";
    counters {
        ok = "Requests within the global rate limit.",
        over_limit = "Requests beyond the global rate limit.",
        error = "Requests that no rate-limit service counted.",
        failure_mode_allowed = "Requests let through although no rate-limit service counted them.",
    }
    gauges {}
}

stats! {
    /// `listener.<address>.*`.
    ListenerStats, "envoy_listener_", "envoy_listener_address";
    counters {
        downstream_cx_total = "Connections accepted.",
        downstream_cx_overload_reject = "Connections closed because of overload.",
        downstream_cx_overflow = "Connections closed because the listener had as many as it may have.",
        downstream_global_cx_overflow = "Connections closed because the process had as many as it may have.",
        no_filter_chain_match = "Connections closed because no filter chain matched.",
        ssl_handshake = "TLS handshakes completed.",
        ssl_connection_error = "TLS handshakes failed.",
    }
    gauges {
        downstream_cx_active = "Open connections.",
    }
}

stats! {
    /// `connection_limit.<stat prefix>.*`.
    ConnectionLimitStats, "envoy_connection_limit_", "envoy_connection_limit_prefix";
    counters {
        limited_connections = "Connections closed because their filter chain had as many as it may have.",
    }
    gauges {
        active_connections = "Connections that count towards the limit.",
    }
}

stats! {
    /// `http.<stat prefix>.*`.
    HttpStats, "envoy_http_", "envoy_http_conn_manager_prefix";
    counters {
        downstream_rq_total = "Requests received.",
        downstream_rq_2xx = "Responses of class 2xx.",
        downstream_rq_3xx = "Responses of class 3xx.",
        downstream_rq_4xx = "Responses of class 4xx.",
        downstream_rq_5xx = "Responses of class 5xx.",
        downstream_cx_protocol_error = "Connections closed because of malformed messages.",
        downstream_rq_overload_close = "Requests refused because of overload.",
        downstream_cx_overload_disable_keepalive = "Connections ended because of overload.",
        downstream_rq_rx_reset = "Requests reset by the client.",
        rbac_allowed = "Requests and connections that access rules allowed.",
        rbac_denied = "Requests and connections that access rules denied.",
        rbac_shadow_allowed = "Requests and connections that shadow rules would have allowed.",
        rbac_shadow_denied = "Requests and connections that shadow rules would have denied.",
        jwt_authn_allowed = "Requests whose tokens were as required.",
        jwt_authn_denied = "Requests refused for their tokens.",
        jwt_authn_cors_preflight_bypassed = "Preflight requests not asked for tokens.",
        jwt_authn_jwt_cache_hit = "Tokens known to be good.",
        jwt_authn_jwt_cache_miss = "Tokens whose signature was checked.",
        ext_authz_ok = "Requests that an external authorizer allowed.",
        ext_authz_denied = "Requests that an external authorizer refused.",
        ext_authz_error = "Requests about which no external authorizer could be asked.",
        ext_authz_timeout = "Requests about which an external authorizer did not answer in time.",
        ext_authz_failure_mode_allowed = "Requests let through although no external authorizer could be asked.",
        ext_authz_disabled = "Requests about which no external authorizer was to be asked.",
        fault_delays_injected = "Requests delayed on purpose.",
        fault_response_rl_injected = "Responses slowed down on purpose.",
        fault_aborts_injected = "Requests aborted on purpose.",
        cors_origin_valid = "Requests from an allowed origin.",
        cors_origin_invalid = "Requests from an origin that is not allowed.",
        http_local_rate_limit_ok = "Requests within the local rate limit.",
        http_local_rate_limit_rate_limited = "Requests beyond the local rate limit.",
        http_local_rate_limit_enforced = "Requests refused by the local rate limit.",
    }
    gauges {
        downstream_rq_active = "Requests in flight.",
    }
}

/// `rbac.policy.<name>.*`: what shadow rules under one prefix would have done by one policy (`none`: no policy matched).
#[derive(Clone, Copy, Debug)]
pub struct ShadowStats {
    pub allowed: Counter,
    pub denied: Counter,
}

impl ShadowStats {
    /// The slots for a policy of the rules with this prefix.
    pub fn resolve(registry: &Registry, prefix: &str, policy: &str) -> Self {
        let labels = [("envoy_rbac_http_prefix", prefix), ("envoy_rbac_policy_name", policy)];
        ShadowStats {
            allowed: registry.counter(
                "envoy_http_rbac_policy_shadow_allowed",
                "Requests and connections that a policy's shadow rules would have allowed.",
                &labels,
            ),
            denied: registry.counter(
                "envoy_http_rbac_policy_shadow_denied",
                "Requests and connections that a policy's shadow rules would have denied.",
                &labels,
            ),
        }
    }
}
