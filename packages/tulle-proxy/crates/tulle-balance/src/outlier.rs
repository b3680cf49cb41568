//! Passive health: ejects hosts that fail, as Envoy's outlier detection does, driven by outcomes and `now` alone.

use std::time::Duration;

use tulle_core::{Nanos, Rng};

use crate::host::HostId;

/// `envoy.config.cluster.v3.OutlierDetection`; enforcing shares are percentages.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierConfig {
    pub consecutive_5xx: u32,
    pub enforcing_consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub enforcing_consecutive_gateway_failure: u32,
    pub split_external_local_origin_errors: bool,
    pub consecutive_local_origin_failure: u32,
    pub enforcing_consecutive_local_origin_failure: u32,
    pub interval: Duration,
    pub base_ejection_time: Duration,
    pub max_ejection_time: Duration,
    pub max_ejection_time_jitter: Duration,
    pub max_ejection_percent: u32,
    /// Eject one host even when the percentage would forbid it.
    pub always_eject_one_host: bool,
    pub success_rate_minimum_hosts: u32,
    pub success_rate_request_volume: u32,
    /// Thousandths of a standard deviation.
    pub success_rate_stdev_factor: u32,
    pub enforcing_success_rate: u32,
    pub enforcing_local_origin_success_rate: u32,
    pub failure_percentage_threshold: u32,
    pub enforcing_failure_percentage: u32,
    pub enforcing_failure_percentage_local_origin: u32,
    pub failure_percentage_minimum_hosts: u32,
    pub failure_percentage_request_volume: u32,
    /// A host that passes its active health check is no longer ejected.
    pub returned_by_health_check: bool,
}

impl Default for OutlierConfig {
    /// Envoy's defaults.
    fn default() -> Self {
        OutlierConfig {
            consecutive_5xx: 5,
            enforcing_consecutive_5xx: 100,
            consecutive_gateway_failure: 5,
            enforcing_consecutive_gateway_failure: 0,
            split_external_local_origin_errors: false,
            consecutive_local_origin_failure: 5,
            enforcing_consecutive_local_origin_failure: 100,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one_host: false,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            enforcing_success_rate: 100,
            enforcing_local_origin_success_rate: 100,
            failure_percentage_threshold: 85,
            enforcing_failure_percentage: 0,
            enforcing_failure_percentage_local_origin: 0,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
            returned_by_health_check: true,
        }
    }
}

/// A change of a host's ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutlierEvent {
    Ejected { host: HostId, until: Nanos, reason: EjectionReason },
    Returned { host: HostId },
}

/// Why a host was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionReason {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    FailurePercentage,
    LocalOriginSuccessRate,
    LocalOriginFailurePercentage,
}

/// One request's result on a host, as the detector counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostResult {
    /// A response came with this HTTP status (for gRPC, Envoy's mapping of the gRPC status).
    Status(u16),
    /// Connecting, TLS or a reset failed before a response.
    LocalOriginFailure,
    /// There is a connection for a request.
    LocalOriginSuccess,
    /// The response did not come in time.
    Timeout,
}

/// The detector of one cluster on one worker.
#[derive(Debug)]
pub struct OutlierDetector {
    config: OutlierConfig,
    /// Sorted by host.
    monitors: Vec<(HostId, Monitor)>,
    ejected: u32,
    next_tick: Nanos,
}

#[derive(Clone, Debug, Default)]
struct Monitor {
    consecutive_5xx: u32,
    consecutive_gateway: u32,
    consecutive_local: u32,
    external: Tally,
    local: Tally,
    /// How many base times the latest ejection lasts; falls again with every quiet interval.
    backoff: u32,
    /// When the running ejection ends.
    until: Option<Nanos>,
    /// When the latest ejection ended.
    returned: Option<Nanos>,
}

/// Whose failures a rate counts.
#[derive(Clone, Copy)]
enum Origin {
    External,
    Local,
}

impl Origin {
    fn tally(self, monitor: &Monitor) -> Tally {
        match self {
            Origin::External => monitor.external,
            Origin::Local => monitor.local,
        }
    }

    fn by_success_rate(self, config: &OutlierConfig) -> (EjectionReason, u32) {
        match self {
            Origin::External => (EjectionReason::SuccessRate, config.enforcing_success_rate),
            Origin::Local => (EjectionReason::LocalOriginSuccessRate, config.enforcing_local_origin_success_rate),
        }
    }

    fn by_failure_percentage(self, config: &OutlierConfig) -> (EjectionReason, u32) {
        match self {
            Origin::External => (EjectionReason::FailurePercentage, config.enforcing_failure_percentage),
            Origin::Local => {
                (EjectionReason::LocalOriginFailurePercentage, config.enforcing_failure_percentage_local_origin)
            }
        }
    }
}

/// Intervals below what timers tell apart are this.
const SHORTEST: Duration = Duration::from_millis(1);

/// Results of one interval.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    total: u32,
    good: u32,
}

impl Tally {
    fn count(&mut self, good: bool) {
        self.total += 1;
        self.good += u32::from(good);
    }

    fn success_rate(self) -> f64 {
        f64::from(self.good) * 100.0 / f64::from(self.total.max(1))
    }
}

impl OutlierDetector {
    pub fn new(mut config: OutlierConfig, now: Nanos) -> Self {
        config.interval = config.interval.max(SHORTEST);
        let next_tick = now + config.interval;
        OutlierDetector { config, monitors: Vec::new(), ejected: 0, next_tick }
    }

    /// Takes over the cluster's hosts; what is known of those that stay is kept.
    pub fn set_hosts(&mut self, hosts: impl Iterator<Item = HostId>) {
        let mut monitors: Vec<(HostId, Monitor)> = hosts.map(|host| (host, Monitor::default())).collect();
        monitors.sort_by_key(|(host, _)| *host);
        for (host, monitor) in &mut monitors {
            if let Some(known) = self.monitor(*host) {
                *monitor = std::mem::take(known);
            }
        }
        self.monitors = monitors;
        self.ejected = self.monitors.iter().filter(|(_, monitor)| monitor.until.is_some()).count() as u32;
    }

    fn monitor(&mut self, host: HostId) -> Option<&mut Monitor> {
        let at = self.monitors.binary_search_by_key(&host, |(id, _)| *id).ok()?;
        Some(&mut self.monitors[at].1)
    }

    /// Counts a request's result; says when the host is thereby ejected. Allocates nothing.
    pub fn report(&mut self, host: HostId, result: HostResult, now: Nanos, rng: &mut Rng) -> Option<OutlierEvent> {
        let config = &self.config;
        let at = self.monitors.binary_search_by_key(&host, |(id, _)| *id).ok()?;
        let (reason, enforcing) = self.monitors[at].1.count(config, result)?;
        self.eject(at, reason, enforcing, now, rng)
    }

    /// A host passed its active health check; says whether it is thereby no longer ejected.
    pub fn passed_check(&mut self, host: HostId, now: Nanos) -> Option<OutlierEvent> {
        if !self.config.returned_by_health_check {
            return None;
        }
        let monitor = self.monitor(host)?;
        monitor.until?;
        monitor.take_back(now);
        self.ejected -= 1;
        Some(OutlierEvent::Returned { host })
    }

    /// When `tick` is due.
    pub fn next_tick(&self) -> Nanos {
        self.next_tick
    }

    /// Whether the next `tick` matters to a fraction of a second: a host is out, or intervals are so short and it has
    /// anything to do. Others may be a second late, and cost nothing until then.
    pub fn is_pressing(&self) -> bool {
        let short = self.config.interval < Duration::from_secs(1);
        self.ejected > 0 || short && self.monitors.iter().any(|(_, monitor)| monitor.is_busy())
    }

    /// The interval's work: returns hosts whose time is over, then ejects by success rate and failure percentage.
    pub fn tick(&mut self, now: Nanos, rng: &mut Rng) -> Vec<OutlierEvent> {
        self.next_tick = now + self.config.interval;
        let mut events = Vec::new();
        for (host, monitor) in &mut self.monitors {
            match monitor.until {
                Some(until) if until <= now => {
                    monitor.take_back(now);
                    self.ejected -= 1;
                    events.push(OutlierEvent::Returned { host: *host });
                }
                _ => {}
            }
        }
        self.eject_by_rate(Origin::External, now, rng, &mut events);
        if self.config.split_external_local_origin_errors {
            self.eject_by_rate(Origin::Local, now, rng, &mut events);
        }
        for (_, monitor) in &mut self.monitors {
            monitor.external = Tally::default();
            monitor.local = Tally::default();
            monitor.calm_down(self.config.interval, now);
        }
        events
    }

    fn eject_by_rate(&mut self, origin: Origin, now: Nanos, rng: &mut Rng, events: &mut Vec<OutlierEvent>) {
        let rates = |volume: u32| -> Vec<(usize, f64)> {
            let counted = self.monitors.iter().enumerate().filter(|(_, (_, monitor))| monitor.until.is_none());
            let tallies = counted.map(|(at, (_, monitor))| (at, origin.tally(monitor)));
            tallies
                .filter(|(_, tally)| tally.total >= volume.max(1))
                .map(|(at, tally)| (at, tally.success_rate()))
                .collect()
        };
        let by_success = rates(self.config.success_rate_request_volume);
        let by_failure = rates(self.config.failure_percentage_request_volume);
        let mut outliers = Vec::new();
        if by_success.len() >= self.config.success_rate_minimum_hosts.max(1) as usize {
            let least = threshold(&by_success, self.config.success_rate_stdev_factor);
            let bad = by_success.iter().filter(|(_, rate)| *rate < least);
            let (reason, enforcing) = origin.by_success_rate(&self.config);
            outliers.extend(bad.map(|(at, _)| (*at, reason, enforcing)));
        }
        if by_failure.len() >= self.config.failure_percentage_minimum_hosts.max(1) as usize {
            let most = f64::from(self.config.failure_percentage_threshold);
            let bad = by_failure.iter().filter(|(_, rate)| 100.0 - *rate >= most);
            let (reason, enforcing) = origin.by_failure_percentage(&self.config);
            outliers.extend(bad.map(|(at, _)| (*at, reason, enforcing)));
        }
        for (at, reason, enforcing) in outliers {
            events.extend(self.eject(at, reason, enforcing, now, rng));
        }
    }

    fn eject(
        &mut self,
        at: usize,
        reason: EjectionReason,
        enforcing: u32,
        now: Nanos,
        rng: &mut Rng,
    ) -> Option<OutlierEvent> {
        let percent = f64::from(self.ejected + 1) * 100.0 / self.monitors.len() as f64;
        let within = percent <= f64::from(self.config.max_ejection_percent.min(100));
        let allowed = within || (self.config.always_eject_one_host && self.ejected == 0);
        let (host, monitor) = &mut self.monitors[at];
        if monitor.until.is_some() || !allowed || rng.below(100) >= u64::from(enforcing) {
            return None;
        }
        let base = self.config.base_ejection_time;
        let longest = self.config.max_ejection_time.max(base);
        // Envoy counts on by one beyond the longest time: it takes so much longer to calm down.
        if base.saturating_mul(monitor.backoff) < longest.saturating_add(base) {
            monitor.backoff += 1;
        }
        let jitter = self.config.max_ejection_time_jitter.mul_f64(rng.unit());
        let until = now + base.saturating_mul(monitor.backoff).min(longest) + jitter;
        monitor.until = Some(until);
        self.ejected += 1;
        Some(OutlierEvent::Ejected { host: *host, until, reason })
    }
}

/// The success rate below which a host is an outlier: mean less `factor`/1000 standard deviations.
fn threshold(rates: &[(usize, f64)], factor: u32) -> f64 {
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - f64::from(factor) / 1000.0 * variance.sqrt()
}

impl Monitor {
    /// The ejection is over.
    fn take_back(&mut self, now: Nanos) {
        self.until = None;
        self.returned = Some(now);
        self.consecutive_5xx = 0;
        self.consecutive_gateway = 0;
        self.consecutive_local = 0;
    }

    /// At the end of an interval: the next ejection is shorter when the host has been in for all of it.
    fn calm_down(&mut self, interval: Duration, now: Nanos) {
        let quiet = self.until.is_none() && self.returned.is_some_and(|returned| returned + interval <= now);
        self.backoff -= u32::from(quiet && self.backoff > 0);
    }

    fn is_busy(&self) -> bool {
        self.backoff > 0 || self.external.total > 0 || self.local.total > 0
    }

    /// Counts, and names the streak that is thereby complete.
    fn count(&mut self, config: &OutlierConfig, result: HostResult) -> Option<(EjectionReason, u32)> {
        if config.split_external_local_origin_errors {
            match result {
                HostResult::Status(status) => self.count_status(config, status),
                HostResult::LocalOriginSuccess => self.count_local(config, true),
                HostResult::LocalOriginFailure | HostResult::Timeout => self.count_local(config, false),
            }
        } else {
            match result {
                HostResult::Status(status) => self.count_status(config, status),
                // Without the split Envoy counts local errors as gateway responses.
                HostResult::LocalOriginFailure => self.count_status(config, 503),
                HostResult::Timeout => self.count_status(config, 504),
                HostResult::LocalOriginSuccess => None,
            }
        }
    }

    fn count_status(&mut self, config: &OutlierConfig, status: u16) -> Option<(EjectionReason, u32)> {
        self.external.count(status < 500);
        if status < 500 {
            self.consecutive_5xx = 0;
            self.consecutive_gateway = 0;
            return None;
        }
        let gateway = matches!(status, 502..=504);
        let gateway_full = gateway && full(&mut self.consecutive_gateway, config.consecutive_gateway_failure);
        if !gateway {
            self.consecutive_gateway = 0;
        }
        let all_full = full(&mut self.consecutive_5xx, config.consecutive_5xx);
        // Envoy looks at the gateway streak first; one that is not enforced leaves the decision to the other.
        let enforced = config.enforcing_consecutive_gateway_failure;
        if gateway_full && (enforced > 0 || !all_full) {
            return Some((EjectionReason::ConsecutiveGatewayFailure, enforced));
        }
        all_full.then_some((EjectionReason::Consecutive5xx, config.enforcing_consecutive_5xx))
    }

    fn count_local(&mut self, config: &OutlierConfig, good: bool) -> Option<(EjectionReason, u32)> {
        self.local.count(good);
        if good {
            self.consecutive_local = 0;
            return None;
        }
        let enforcing = config.enforcing_consecutive_local_origin_failure;
        full(&mut self.consecutive_local, config.consecutive_local_origin_failure)
            .then_some((EjectionReason::ConsecutiveLocalOriginFailure, enforcing))
    }
}

/// Adds one to a streak; at its limit it starts over and is full. A limit of zero switches it off.
fn full(streak: &mut u32, limit: u32) -> bool {
    *streak += 1;
    let full = limit > 0 && *streak >= limit;
    if full {
        *streak = 0;
    }
    full
}
