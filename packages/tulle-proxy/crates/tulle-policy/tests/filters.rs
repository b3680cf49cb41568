//! Faults, cross-origin requests and local rate limits as tables of requests and decisions.

use std::time::Duration;

use tulle_core::{FractionalPercent, Headers, Nanos, RequestView};
use tulle_policy::cors::{CorsPolicy, CorsRequest, Preflights};
use tulle_policy::descriptors::{HostSlots, RateLimitAction, RateLimitSlot, Slots, Source, WhenAbsent};
use tulle_policy::fault::{Abort, AbortWith, Aborted, Delay, DelayLength, Fault, Throughput};
use tulle_policy::local_rate_limit::{
    Allowance, Buckets, ByValue, DefaultBucket, DescriptorLimit, Enforcement, GrpcRefusal, LocalRateLimit, Report,
    RetryAfter,
};
use tulle_policy::{
    HeaderMatcher, HeaderTest, RetryOn, RetryPolicy, RetryState, SharedBucket, StringMatcher, StringTest,
    TokenBucketConfig,
};

struct Request<'a>(&'a str, &'a [(&'a str, &'a str)]);

impl Headers for Request<'_> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.1.header(name)
    }

    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.1.visit_values(name, visit);
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.1.visit_headers(visit);
    }
}

impl RequestView for Request<'_> {
    fn method(&self) -> &str {
        self.0
    }

    fn authority(&self) -> &str {
        "backend"
    }

    fn path(&self) -> &str {
        "/"
    }

    fn scheme(&self) -> &str {
        "http"
    }
}

fn fault(delay: DelayLength, abort: AbortWith, share: FractionalPercent) -> Fault {
    Fault {
        max_active: None,
        delay: Some(Delay { length: delay, share: share.into() }),
        abort: Some(Abort { with: abort, share: share.into(), body: None }),
        throughput: None,
        upstream_cluster: None,
        headers: Box::default(),
        downstream_nodes: Box::default(),
    }
}

#[test]
fn faults_are_fixed_or_by_header() {
    let plain = Request("GET", &[]);
    let fixed = fault(DelayLength::Fixed(Duration::from_secs(7)), AbortWith::Http(503), FractionalPercent::ALWAYS);
    assert_eq!(fixed.delay(&plain, 0), Some(Duration::from_secs(7)));
    assert_eq!(fixed.abort(&plain, 0), Some(Aborted::Http(503)));
    let asked = fault(DelayLength::ByHeader, AbortWith::ByHeader, FractionalPercent::ALWAYS);
    assert_eq!((asked.delay(&plain, 0), asked.abort(&plain, 0)), (None, None));
    let headers = [("x-envoy-fault-delay-request", "250"), ("x-envoy-fault-abort-request", "418")];
    assert_eq!(asked.delay(&Request("GET", &headers), 0), Some(Duration::from_millis(250)));
    assert_eq!(asked.abort(&Request("GET", &headers), 0), Some(Aborted::Http(418)));
    let grpc = [("x-envoy-fault-abort-request", "99"), ("x-envoy-fault-abort-grpc-request", "14")];
    assert_eq!(asked.abort(&Request("GET", &grpc), 0), Some(Aborted::Grpc(14)));
    let nonsense = [("x-envoy-fault-delay-request", "soon"), ("x-envoy-fault-abort-request", "-1")];
    assert_eq!(asked.delay(&Request("GET", &nonsense), 0), None);
    assert_eq!(asked.abort(&Request("GET", &nonsense), 0), None);
}

#[test]
fn shares_are_kept_and_headers_only_lower_them() {
    let half = fault(DelayLength::ByHeader, AbortWith::Http(500), FractionalPercent::new(50, 100));
    let hits =
        |request: &Request<'_>| (0..1_000_000u64).filter(|random| half.delay(request, *random).is_some()).count();
    let with = |percent| [("x-envoy-fault-delay-request", "1"), ("x-envoy-fault-delay-request-percentage", percent)];
    assert_eq!(hits(&Request("GET", &with("100"))), 500_000);
    assert_eq!(hits(&Request("GET", &with("10"))), 100_000);
    assert_eq!((0..1_000_000u64).filter(|random| half.abort(&Request("GET", &[]), *random).is_some()).count(), 500_000);
}

#[test]
fn bodies_are_slowed_down_as_fixed_or_asked() {
    let slow = |fixed, share| Fault {
        throughput: Some(Throughput { fixed, share: FractionalPercent::into(share) }),
        ..fault(DelayLength::ByHeader, AbortWith::ByHeader, FractionalPercent::NEVER)
    };
    let plain = Request("GET", &[]);
    assert_eq!(slow(Some(3), FractionalPercent::ALWAYS).throughput(&plain, 0), Some(3072));
    assert_eq!(slow(Some(3), FractionalPercent::NEVER).throughput(&plain, 0), None);
    let asked = slow(None, FractionalPercent::ALWAYS);
    let with = |rate| [("x-envoy-fault-throughput-response", rate)];
    assert_eq!(asked.throughput(&plain, 0), None);
    assert_eq!(asked.throughput(&Request("GET", &with("2")), 0), Some(2048));
    assert_eq!(asked.throughput(&Request("GET", &with("0")), 0), None);
    let never = [with("2")[0], ("x-envoy-fault-throughput-response-percentage", "0")];
    assert_eq!(asked.throughput(&Request("GET", &never), 0), None);
}

#[test]
fn a_fault_concerns_its_cluster_and_nodes() {
    let only = Fault {
        max_active: None,
        upstream_cluster: Some("one".into()),
        downstream_nodes: Box::new(["client".into()]),
        ..fault(DelayLength::ByHeader, AbortWith::ByHeader, FractionalPercent::ALWAYS)
    };
    let from = [("x-envoy-downstream-service-node", "client")];
    assert!(only.concerns(&Request("GET", &from), Some("one")));
    assert!(!only.concerns(&Request("GET", &from), Some("two")));
    assert!(!only.concerns(&Request("GET", &from), None));
    assert!(!only.concerns(&Request("GET", &[]), Some("one")));
}

fn cors(preflights: Preflights) -> CorsPolicy {
    CorsPolicy {
        allow_private_network: None,
        enabled: FractionalPercent::ALWAYS,
        origins: Box::new([StringMatcher::exact("https://a.test")]),
        allow_methods: "GET".into(),
        allow_headers: "".into(),
        expose_headers: "".into(),
        max_age: "60".into(),
        allow_credentials: Some(true),
        preflights: Some(preflights),
    }
}

#[test]
fn requests_are_classified_by_origin_and_preflight() {
    let asking = ("access-control-request-method", "GET");
    let (ours, other) = (("origin", "https://a.test"), ("origin", "https://b.test"));
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], CorsRequest, CorsRequest);
    let table: [Row<'_>; 6] = [
        ("GET", &[], CorsRequest::Plain, CorsRequest::Plain),
        ("GET", &[ours], CorsRequest::Allowed, CorsRequest::Allowed),
        ("GET", &[other], CorsRequest::Foreign, CorsRequest::Foreign),
        ("OPTIONS", &[ours], CorsRequest::Allowed, CorsRequest::Allowed),
        ("OPTIONS", &[ours, asking], CorsRequest::Preflight, CorsRequest::Preflight),
        ("OPTIONS", &[other, asking], CorsRequest::Foreign, CorsRequest::ForeignPreflight),
    ];
    for (method, headers, forwarding, answering) in table {
        let request = Request(method, headers);
        assert_eq!(cors(Preflights::Forward).classify(&request, 0), forwarding, "{method} {headers:?}");
        assert_eq!(cors(Preflights::Answer).classify(&request, 0), answering, "{method} {headers:?}");
    }
    let off = CorsPolicy { enabled: FractionalPercent::NEVER, ..cors(Preflights::Forward) };
    assert_eq!(off.classify(&Request("GET", &[ours]), 0), CorsRequest::Plain);
}

#[test]
fn what_a_route_leaves_open_its_virtual_host_says() {
    let mut route = CorsPolicy {
        origins: Box::new([StringMatcher::exact("*")]),
        allow_methods: "".into(),
        allow_credentials: Some(false),
        preflights: None,
        ..cors(Preflights::Forward)
    };
    route.inherit(&cors(Preflights::Answer));
    let merged =
        CorsPolicy { origins: route.origins.clone(), allow_credentials: Some(false), ..cors(Preflights::Answer) };
    assert_eq!(route, merged);
}

fn bucket(max_tokens: u32) -> SharedBucket {
    SharedBucket::new(TokenBucketConfig { max_tokens, tokens_per_fill: 1, fill_interval: Duration::from_secs(60) })
}

fn limit(default_bucket: DefaultBucket, enforced: FractionalPercent) -> LocalRateLimit {
    LocalRateLimit {
        status: 429,
        bucket: Some(bucket(3)),
        default_bucket,
        enabled: FractionalPercent::ALWAYS,
        enforced,
        descriptors: Box::new([DescriptorLimit {
            entries: Box::new([("user".into(), Some("a".into()))]),
            buckets: Buckets::One(bucket(1)),
            enforcement: Enforcement::Enforced,
        }]),
        slots: Box::new([RateLimitSlot {
            stage: 0,
            actions: Box::new([RateLimitAction::RequestHeader {
                name: "x-user".into(),
                key: "user".into(),
                when_absent: WhenAbsent::NoDescriptor,
            }]),
            hits: None,
            limit: None,
        }]),
        response_headers: Box::default(),
        request_headers: Box::default(),
        stage: 0,
        host_slots: HostSlots::Override,
        report: Report::Nothing,
        retry_after: RetryAfter::Unsaid,
        grpc: GrpcRefusal::Unavailable,
    }
}

fn take(limit: &LocalRateLimit, headers: &[(&str, &str)]) -> Allowance {
    let request = Request("GET", headers);
    let remote = "10.0.0.1".parse().unwrap();
    let source = Source { request: &request, cluster: Some("one"), own_cluster: "here", remote, metadata: None };
    limit.take(&source, Slots::default(), Nanos::from_secs(1), 0)
}

#[test]
fn descriptors_have_buckets_of_their_own() {
    let limit = limit(DefaultBucket::WithoutDescriptor, FractionalPercent::ALWAYS);
    let (a, b) = ([("x-user", "a")], [("x-user", "b")]);
    assert!(matches!(take(&limit, &a), Allowance::Granted(quota) if (quota.limit, quota.remaining) == (1, 0)));
    assert!(matches!(take(&limit, &a), Allowance::Refused(quota) if quota.limit == 1));
    for _ in 0..3 {
        assert!(matches!(take(&limit, &b), Allowance::Granted(quota) if quota.limit == 3));
    }
    assert!(matches!(take(&limit, &[]), Allowance::Refused(quota) if quota.limit == 3));
}

#[test]
fn every_value_of_a_wildcard_has_its_bucket_and_the_oldest_makes_room() {
    let config = TokenBucketConfig { max_tokens: 1, tokens_per_fill: 1, fill_interval: Duration::from_secs(60) };
    let limit = LocalRateLimit {
        bucket: None,
        descriptors: Box::new([DescriptorLimit {
            entries: Box::new([("user".into(), None)]),
            buckets: Buckets::ByValue(ByValue::new(config, 2)),
            enforcement: Enforcement::Enforced,
        }]),
        ..limit(DefaultBucket::Always, FractionalPercent::ALWAYS)
    };
    for user in ["a", "b"] {
        assert!(matches!(take(&limit, &[("x-user", user)]), Allowance::Granted(_)));
        assert!(matches!(take(&limit, &[("x-user", user)]), Allowance::Refused(_)));
    }
    assert!(matches!(take(&limit, &[("x-user", "c")]), Allowance::Granted(_)));
    assert_eq!(take(&limit, &[]), Allowance::Unlimited);
    let shadow = DescriptorLimit {
        entries: Box::new([("user".into(), Some("a".into()))]),
        buckets: Buckets::One(bucket(1)),
        enforcement: Enforcement::Shadow,
    };
    let limit = LocalRateLimit { descriptors: Box::new([shadow]), ..limit };
    assert!(matches!(take(&limit, &[("x-user", "a")]), Allowance::Granted(_)));
    assert!(matches!(take(&limit, &[("x-user", "a")]), Allowance::NotEnforced(_)));
}

#[test]
fn the_default_bucket_counts_everything_by_default() {
    let limit = limit(DefaultBucket::Always, FractionalPercent::ALWAYS);
    assert!(matches!(take(&limit, &[("x-user", "a")]), Allowance::Granted(_)));
    assert!(matches!(take(&limit, &[]), Allowance::Granted(quota) if quota.remaining == 1));
}

#[test]
fn a_limit_that_is_not_enforced_lets_pass() {
    let limit = limit(DefaultBucket::Always, FractionalPercent::NEVER);
    for _ in 0..3 {
        assert!(matches!(take(&limit, &[]), Allowance::Granted(_)));
    }
    assert!(matches!(take(&limit, &[]), Allowance::NotEnforced(_)));
    let off = LocalRateLimit { enabled: FractionalPercent::NEVER, ..limit };
    assert_eq!(take(&off, &[]), Allowance::Unlimited);
}

#[test]
fn every_value_of_a_response_header_counts() {
    let (on, _) = RetryOn::parse("retriable-headers");
    let test = HeaderTest::String(StringMatcher { test: StringTest::Contains("b".into()), ignore_case: false });
    let matcher = HeaderMatcher { name: "x-h".into(), test, invert: false, treat_missing_as_empty: false };
    let policy = RetryPolicy { on, retriable_headers: [matcher].into(), ..RetryPolicy::default() };
    let asks: &[(&str, &str)] = &[("x-envoy-retriable-header-names", "X-Other, x-more")];
    let none: &[(&str, &str)] = &[];
    let has = |request: &[(&str, &str)], response: &[(&str, &str)]| {
        RetryState::for_request(&policy, &Request("/", request)).has_retriable_header(&policy, response)
    };
    assert!(has(none, &[("x-h", "a"), ("x-h", "b")]));
    assert!(!has(none, &[("x-h", "a"), ("x-other", "1")]));
    assert!(has(asks, &[("x-other", "1")]));
}
