//! Proves that deciding about a request allocates nothing: select, mutate, retry, balance, count and log.
//!
//! The counting allocator counts the thread under test only, so that the test harness does not disturb it.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{Request, config, get, host};
use tulle_balance::*;
use tulle_core::{Headers, HeadersMut, Nanos, ResponseFlags, Rng};
use tulle_policy::*;
use tulle_route::hashing::Hashed;
use tulle_route::*;
use tulle_telemetry::istio::{Reporter, RequestProtocol, Security};
use tulle_telemetry::*;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system allocator; counting touches a const-initialised thread local
// without a destructor, which itself allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's obligations are the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// A head that takes edits without growing, as the data path's recycled buffers do.
#[derive(Default)]
struct Edits(usize);

impl Headers for Edits {
    fn header(&self, _name: &str) -> Option<&[u8]> {
        None
    }

    fn visit_values(&self, _name: &str, _visit: &mut dyn FnMut(&[u8])) {}

    fn visit_headers(&self, _visit: &mut dyn FnMut(&[u8], &[u8])) {}
}

impl HeadersMut for Edits {
    fn append(&mut self, _name: &str, _value: &[u8]) {
        self.0 += 1;
    }

    fn set(&mut self, _name: &str, _value: &[u8]) {
        self.0 += 1;
    }

    fn remove(&mut self, _name: &str) {
        self.0 += 1;
    }
}

fn table() -> RouteConfig {
    let matches = RouteMatch {
        headers: Box::new([HeaderMatcher {
            name: "user-type".into(),
            test: HeaderTest::String(StringMatcher {
                test: StringTest::Regex(Regex::new("int.*l|admin").unwrap()),
                ignore_case: false,
            }),
            invert: false,
            treat_missing_as_empty: false,
        }]),
        ..RouteMatch::path(PathMatch::Regex(Regex::new("/api/v[0-9]+/.*").unwrap()))
    };
    let arm = |name: &str, weight| WeightedCluster {
        name: ClusterName::Is(name.into()),
        weight,
        mutations: HeaderMutations {
            request_add: Box::new([HeaderValue {
                name: "x-from".into(),
                value: TextFormat::parse("%REQ(:authority)%-%START_TIME%").unwrap(),
                action: AppendAction::AppendIfExistsOrAdd,
                keep_empty: false,
            }]),
            ..HeaderMutations::default()
        },
        host_rewrite: None,
        subset: Box::default(),
        filters: tulle_policy::FilterOverrides::default(),
    };
    let target = ClusterTarget::Weighted(Box::new([arm("v1", 90), arm("v2", 10)]));
    let hash = HashPolicy { source: HashSource::SourceIp, terminal: false };
    let forward = Forward { target, hash: Box::new([hash]), ..Forward::to("c".into()) };
    let route = Route::new("r".into(), matches, RouteAction::Forward(Box::new(forward)));
    config(vec![host("other", &["x.y"], vec![]), host("h", &["*.default"], vec![route])])
}

struct Worker {
    balancers: Vec<Balancer>,
    outlier: OutlierDetector,
    metrics: IstioMetrics,
    sheet: Sheet,
    key: RequestKey,
    log: TextFormat,
    json: JsonFormat,
    line: Vec<u8>,
    scratch: Vec<u8>,
    rng: Rng,
}

fn worker() -> Worker {
    let endpoint = |port: u16| Endpoint {
        weight: u32::from(port % 3 + 1),
        ..Endpoint::new(SocketAddr::from(([127, 0, 0, 1], port)))
    };
    let set = EndpointSet::flat((1..50).map(endpoint).collect());
    let policies = [
        LbPolicy::RoundRobin,
        LbPolicy::DEFAULT_LEAST_REQUEST,
        LbPolicy::Random,
        LbPolicy::DEFAULT_RING_HASH,
        LbPolicy::DEFAULT_MAGLEV,
    ];
    let build = |policy| Balancer::new(Arc::new(LbConfig { policy, ..LbConfig::default() }), &set, Nanos::ZERO, 3);
    let registry = Registry::new();
    let mut metrics = IstioMetrics::new(registry.clone());
    let peer = metrics.peer(&PeerLabels::default());
    let key = RequestKey {
        reporter: Reporter::Source,
        source: peer,
        destination: peer,
        service: metrics.service(&ServiceLabels::default()),
        protocol: RequestProtocol::Http,
        security: Security::MutualTls,
        response_code: 200,
        flags: ResponseFlags::NONE,
        grpc_status: None,
    };
    let fields = [("code", "%RESPONSE_CODE%"), ("path", "%REQ(:path)%"), ("at", "%START_TIME%")];
    let template = fields.map(|(name, format)| (name.to_owned(), JsonTemplate::Text(format.to_owned())));
    let mut outlier = OutlierDetector::new(OutlierConfig::default(), Nanos::ZERO);
    outlier.set_hosts((0..100).map(HostId));
    Worker {
        balancers: policies.map(build).into(),
        outlier,
        metrics,
        sheet: registry.sheet(),
        key,
        log: TextFormat::parse(ISTIO_TEXT_FORMAT).unwrap(),
        json: JsonFormat::compile(&JsonTemplate::Object(template.into()), Default::default(), &mut Vec::new()).unwrap(),
        line: Vec::with_capacity(4096),
        scratch: Vec::with_capacity(256),
        rng: Rng::seeded(1),
    }
}

impl Worker {
    fn exchange(&mut self, config: &RouteConfig, retry: &RetryPolicy, request: &Request) {
        let selected = select(config, request, self.rng.next_u64()).expect("the route matches");
        let RouteAction::Forward(forward) = selected.action() else { panic!("the route forwards") };
        assert!(selected.cluster(request).is_some());
        let mut head = Edits::default();
        selected.levels().for_each(|level| level.request().apply(request, &mut head, &mut self.scratch));
        assert_eq!(head.0, 1);
        let timeouts = Timeouts::resolve(&forward.timeouts, Some(retry), request);
        assert_eq!(timeouts.request, Some(Duration::from_secs(15)));
        let hashed = Hashed { request, source: Some([127, 0, 0, 1].into()) };
        let hash = hash_of(&forward.hash, &hashed, &mut |_| unreachable!("no policy makes cookies"));
        let mut state = RetryState::for_request(retry, request);
        for balancer in &mut self.balancers {
            let context = PickContext { hash, ..PickContext::default() };
            let host = balancer.pick(&context, &mut self.rng, Nanos::ZERO).expect("there are hosts");
            let _active = host.begin();
            self.outlier.report(host.id, tulle_balance::HostResult::Status(200), Nanos::ZERO, &mut self.rng);
        }
        state.after(retry, &Outcome::status(503), Nanos::ZERO, &mut self.rng);
        self.metrics.record(&self.sheet, &self.key, &RequestSample::default());
        self.line.clear();
        self.log.render(request, &mut self.line);
        self.json.render(request, &mut self.line);
    }
}

#[test]
fn a_request_is_decided_without_allocating() {
    let (config, mut worker) = (table(), worker());
    let retry = RetryPolicy { on: RetryOn::SERVER_ERROR, num_retries: 2, ..RetryPolicy::default() };
    let request = get("Backend.Default", "/api/v1/x?q").with("user-type", "internal");
    // The first one sees its series, chunks and regex caches made.
    worker.exchange(&config, &retry, &request);
    let counted = allocations(|| (0..1_000).for_each(|_| worker.exchange(&config, &retry, &request)));
    assert_eq!(counted, 0);
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}
