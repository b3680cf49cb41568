//! Adaptive concurrency: how many requests may run at once follows from how latency changes under load (Envoy's
//! `envoy.extensions.filters.http.adaptive_concurrency.v3`, gradient controller).
//!
//! Source: Envoy, "Adaptive concurrency". Every so often the limit is lowered to learn the latency without load; between,
//! the limit follows the ratio of that to the present latency, with room for bursts of the limit's square root.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tulle_core::{Nanos, Rng};

/// The controller's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientConfig {
    /// Which percentile of latencies counts; Envoy's default is 50.
    pub percentile: f64,
    /// Most requests at once; 1000 by default.
    pub max_limit: u32,
    /// Fewest; 3 by default.
    pub min_limit: u32,
    pub update_interval: Duration,
    pub learn: Learn,
    /// Percent that latency may rise before the limit falls; 25 by default.
    pub buffer: f64,
}

/// How the latency without load is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Learn {
    Fixed(Duration),
    Measured {
        interval: Duration,
        /// Percent of the interval that is added at random; 15 by default.
        jitter: f64,
        /// Answers to look at; 50 by default.
        requests: u32,
        /// The limit while it is measured; 3 by default.
        concurrency: u32,
    },
}

/// One filter's controller, shared by all workers.
#[derive(Debug)]
pub struct Gradient {
    config: GradientConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: u32,
    running: u32,
    /// Latencies since the last update, in nanoseconds.
    samples: Vec<u64>,
    /// `None` while it is measured.
    minimum: Option<Duration>,
    /// What the limit was before the measurement.
    before: u32,
    next_update: Nanos,
    next_measure: Nanos,
    /// Updates in a row that left the limit at its least.
    at_least: u32,
    rng: Rng,
}

/// As many updates at the least limit mean that the learned latency is too low.
const STUCK: u32 = 5;
/// More samples say nothing new.
const SAMPLES: usize = 10_000;

impl Gradient {
    pub fn new(config: GradientConfig, seed: u64) -> Self {
        let (limit, minimum) = match config.learn {
            Learn::Fixed(minimum) => (config.min_limit, Some(minimum)),
            Learn::Measured { concurrency, .. } => (concurrency, None),
        };
        let state = State {
            limit,
            running: 0,
            samples: Vec::new(),
            minimum,
            before: config.min_limit,
            next_update: Nanos::ZERO,
            next_measure: Nanos(u64::MAX),
            at_least: 0,
            rng: Rng::seeded(seed),
        };
        Gradient { config, state: Mutex::new(state) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts one more request unless too many run already. It must be ended.
    pub fn admit(&self, now: Nanos) -> bool {
        self.with(|state| {
            state.advance(&self.config, now);
            let free = state.running < state.limit;
            state.running += u32::from(free);
            free
        })
    }

    /// A request has ended; `latency` when it was answered.
    pub fn end(&self, latency: Option<Duration>, now: Nanos) {
        self.with(|state| {
            state.running -= 1;
            if let Some(latency) = latency
                && state.samples.len() < SAMPLES
            {
                state.samples.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
            }
            state.advance(&self.config, now);
        });
    }

    /// Requests that may run at once now.
    pub fn limit(&self) -> u32 {
        self.with(|state| state.limit)
    }
}

impl State {
    /// Does what is due.
    fn advance(&mut self, config: &GradientConfig, now: Nanos) {
        let Some(minimum) = self.minimum else { return self.measure(config, now) };
        if let Learn::Measured { concurrency, .. } = config.learn
            && (now >= self.next_measure || self.at_least >= STUCK)
        {
            (self.before, self.limit, self.minimum) = (self.limit, concurrency, None);
            self.samples.clear();
            self.at_least = 0;
            return;
        }
        if now >= self.next_update {
            self.next_update = now + config.update_interval;
            self.follow(config, minimum);
        }
    }

    /// Looks whether enough answers have come to know the latency without load.
    fn measure(&mut self, config: &GradientConfig, now: Nanos) {
        let Learn::Measured { interval, jitter, requests, .. } = config.learn else { return };
        if self.samples.len() < requests as usize {
            return;
        }
        self.minimum = percentile(&mut self.samples, config.percentile);
        self.samples.clear();
        self.limit = self.before;
        self.next_update = now + config.update_interval;
        self.next_measure = now + interval + interval.mul_f64(self.rng.unit() * jitter / 100.0);
    }

    fn follow(&mut self, config: &GradientConfig, minimum: Duration) {
        let Some(latency) = percentile(&mut self.samples, config.percentile) else { return };
        self.samples.clear();
        let allowed = minimum.as_secs_f64() * (1.0 + config.buffer / 100.0);
        let gradient = (allowed / latency.as_secs_f64().max(1e-9)).clamp(0.5, 2.0);
        let limit = f64::from(self.limit) * gradient;
        let limit = (limit + limit.sqrt()) as u32;
        self.limit = limit.clamp(config.min_limit, config.max_limit.max(config.min_limit));
        self.at_least = if self.limit == config.min_limit { self.at_least + 1 } else { 0 };
    }
}

fn percentile(samples: &mut [u64], percent: f64) -> Option<Duration> {
    let at = ((samples.len() as f64 * percent / 100.0) as usize).min(samples.len().checked_sub(1)?);
    let (_, found, _) = samples.select_nth_unstable(at);
    Some(Duration::from_nanos(*found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> GradientConfig {
        GradientConfig {
            percentile: 50.0,
            max_limit: 1_000,
            min_limit: 3,
            update_interval: Duration::from_millis(100),
            learn: Learn::Measured { interval: Duration::from_secs(60), jitter: 0.0, requests: 5, concurrency: 3 },
            buffer: 25.0,
        }
    }

    /// Runs one interval of requests that take `latency` milliseconds, and gives the limit after it.
    fn interval(gradient: &Gradient, at: &mut u64, latency: u64) -> u32 {
        for _ in 0..10 {
            if gradient.admit(Nanos::from_millis(*at)) {
                gradient.end(Some(Duration::from_millis(latency)), Nanos::from_millis(*at));
            }
        }
        *at += 100;
        gradient.end_if_admitted(Nanos::from_millis(*at));
        gradient.limit()
    }

    impl Gradient {
        /// Lets time pass.
        fn end_if_admitted(&self, now: Nanos) {
            if self.admit(now) {
                self.end(None, now);
            }
        }
    }

    #[test]
    fn only_so_many_run_at_once() {
        let gradient = Gradient::new(config(), 1);
        let admitted = (0..10).filter(|_| gradient.admit(Nanos::ZERO)).count();
        assert_eq!(admitted, 3);
        gradient.end(None, Nanos::ZERO);
        assert!(gradient.admit(Nanos::ZERO) && !gradient.admit(Nanos::ZERO));
    }

    #[test]
    fn the_limit_rises_while_latency_stays_and_falls_when_it_grows() {
        let (gradient, mut at) = (Gradient::new(config(), 1), 0);
        let rising: Vec<u32> = (0..20).map(|_| interval(&gradient, &mut at, 10)).collect();
        assert!(rising.windows(2).all(|pair| pair[0] <= pair[1]) && rising[19] > 500, "{rising:?}");
        let falling: Vec<u32> = (0..8).map(|_| interval(&gradient, &mut at, 40)).collect();
        assert!(falling[0] > falling[7] && falling[7] < 20, "{falling:?}");
    }

    #[test]
    fn a_latency_that_stays_higher_is_learned_anew() {
        let (gradient, mut at) = (Gradient::new(config(), 1), 0);
        (0..5).for_each(|_| {
            interval(&gradient, &mut at, 10);
        });
        (0..30).for_each(|_| {
            interval(&gradient, &mut at, 40);
        });
        // Stuck at the least limit, it measured again: 40 ms is what it takes.
        let rising: Vec<u32> = (0..10).map(|_| interval(&gradient, &mut at, 40)).collect();
        assert!(rising[9] > 10, "{rising:?}");
    }

    #[test]
    fn a_fixed_latency_needs_no_measurement() {
        let fixed = GradientConfig { learn: Learn::Fixed(Duration::from_millis(10)), max_limit: 20, ..config() };
        let (gradient, mut at) = (Gradient::new(fixed, 1), 0);
        (0..10).for_each(|_| {
            interval(&gradient, &mut at, 10);
        });
        assert_eq!(gradient.limit(), 20);
    }
}
