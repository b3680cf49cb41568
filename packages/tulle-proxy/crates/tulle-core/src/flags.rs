//! Envoy's response flags: why a response is not simply what the upstream said.

use std::fmt;

/// A set of Envoy's response flags (`envoy/stream_info/stream_info.h`, `CoreResponseFlag`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResponseFlags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $code:literal, $long:literal;)*) => {
        impl ResponseFlags {
            $($(#[$doc])* pub const $name: ResponseFlags = ResponseFlags(1 << $bit);)*
            /// (flag, short code, long name), in Envoy's order of printing.
            const TABLE: &'static [(ResponseFlags, &'static str, &'static str)] =
                &[$((ResponseFlags::$name, $code, $long)),*];
        }
    };
}

flags! {
    /// First in print: Envoy prints flags in the order in which they were set.
    DELAY_INJECTED = 9, "DI", "DelayInjected";
    RATE_LIMIT_SERVICE_ERROR = 13, "RLSE", "RateLimitServiceError";
    /// Set before its cause.
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 15, "URX", "UpstreamRetryLimitExceeded";
    FAILED_LOCAL_HEALTH_CHECK = 0, "LH", "FailedLocalHealthCheck";
    NO_HEALTHY_UPSTREAM = 1, "UH", "NoHealthyUpstream";
    UPSTREAM_REQUEST_TIMEOUT = 2, "UT", "UpstreamRequestTimeout";
    LOCAL_RESET = 3, "LR", "LocalReset";
    UPSTREAM_REMOTE_RESET = 4, "UR", "UpstreamRemoteReset";
    UPSTREAM_CONNECTION_FAILURE = 5, "UF", "UpstreamConnectionFailure";
    UPSTREAM_CONNECTION_TERMINATION = 6, "UC", "UpstreamConnectionTermination";
    /// A circuit-breaker limit was reached.
    UPSTREAM_OVERFLOW = 7, "UO", "UpstreamOverflow";
    NO_ROUTE_FOUND = 8, "NR", "NoRouteFound";
    FAULT_INJECTED = 10, "FI", "FaultInjected";
    RATE_LIMITED = 11, "RL", "RateLimited";
    UNAUTHORIZED_EXTERNAL_SERVICE = 12, "UAEX", "UnauthorizedExternalService";
    DOWNSTREAM_CONNECTION_TERMINATION = 14, "DC", "DownstreamConnectionTermination";
    STREAM_IDLE_TIMEOUT = 16, "SI", "StreamIdleTimeout";
    INVALID_ENVOY_REQUEST_HEADERS = 17, "IH", "InvalidEnvoyRequestHeaders";
    DOWNSTREAM_PROTOCOL_ERROR = 18, "DPE", "DownstreamProtocolError";
    UPSTREAM_MAX_STREAM_DURATION_REACHED = 19, "UMSDR", "UpstreamMaxStreamDurationReached";
    RESPONSE_FROM_CACHE_FILTER = 20, "RFCF", "ResponseFromCacheFilter";
    NO_FILTER_CONFIG_FOUND = 21, "NFCF", "NoFilterConfigFound";
    DURATION_TIMEOUT = 22, "DT", "DurationTimeout";
    UPSTREAM_PROTOCOL_ERROR = 23, "UPE", "UpstreamProtocolError";
    NO_CLUSTER_FOUND = 24, "NC", "NoClusterFound";
    OVERLOAD_MANAGER = 25, "OM", "OverloadManagerTerminated";
    DNS_RESOLUTION_FAILED = 26, "DF", "DnsResolutionFailed";
    DROP_OVERLOAD = 27, "DO", "DropOverload";
    DOWNSTREAM_REMOTE_RESET = 28, "DR", "DownstreamRemoteReset";
    UNCONDITIONAL_DROP_OVERLOAD = 29, "UDO", "UnconditionalDropOverload";
}

impl ResponseFlags {
    pub const NONE: ResponseFlags = ResponseFlags(0);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, other: ResponseFlags) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn insert(&mut self, other: ResponseFlags) {
        self.0 |= other.0;
    }

    pub fn bits(self) -> u32 {
        self.0
    }

    /// The short codes in the set, in Envoy's order; none for the empty set (which logs print as `-`).
    pub fn codes(self) -> impl Iterator<Item = &'static str> {
        Self::TABLE.iter().filter(move |(flag, _, _)| self.contains(*flag)).map(|(_, code, _)| *code)
    }

    /// The long names, as `%RESPONSE_FLAGS_LONG%` prints them.
    pub fn long_names(self) -> impl Iterator<Item = &'static str> {
        Self::TABLE.iter().filter(move |(flag, _, _)| self.contains(*flag)).map(|(_, _, long)| *long)
    }

    /// The flag with this short code.
    pub fn from_code(code: &str) -> Option<ResponseFlags> {
        Self::TABLE.iter().find(|(_, short, _)| *short == code).map(|(flag, _, _)| *flag)
    }
}

impl std::ops::BitOr for ResponseFlags {
    type Output = ResponseFlags;
    fn bitor(self, other: ResponseFlags) -> ResponseFlags {
        ResponseFlags(self.0 | other.0)
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return out.write_str("-");
        }
        for (position, code) in self.codes().enumerate() {
            if position > 0 {
                out.write_str(",")?;
            }
            out.write_str(code)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_its_own_bit_and_code() {
        let mut seen = ResponseFlags::NONE;
        for (flag, code, _) in ResponseFlags::TABLE {
            assert!(!seen.contains(*flag), "{code} shares a bit");
            seen.insert(*flag);
            assert_eq!(ResponseFlags::from_code(code), Some(*flag));
        }
    }

    #[test]
    fn sets_print_as_in_envoys_access_log() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
        let both = ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED | ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
        assert_eq!(both.to_string(), "URX,UF");
    }
}
