//! Envoy's retry policy and the machine that decides, after each attempt, whether another follows.

use std::time::Duration;

use tulle_core::{Headers, Nanos, RequestView, Rng, Str, UnixNanos};

use crate::backoff::Backoff;
use crate::matcher::HeaderMatcher;
use crate::outcome::{Outcome, ResetReason};

/// The set of conditions in `retry_on` and `retry_grpc_on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

macro_rules! conditions {
    ($($name:ident = $bit:literal, $text:literal;)*) => {
        impl RetryOn {
            $(pub const $name: RetryOn = RetryOn(1 << $bit);)*
            const TABLE: &'static [(RetryOn, &'static str)] = &[$((RetryOn::$name, $text)),*];
        }
    };
}

conditions! {
    SERVER_ERROR = 0, "5xx";
    GATEWAY_ERROR = 1, "gateway-error";
    RESET = 2, "reset";
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    CONNECT_FAILURE = 4, "connect-failure";
    RETRIABLE_4XX = 5, "retriable-4xx";
    REFUSED_STREAM = 6, "refused-stream";
    RETRIABLE_STATUS_CODES = 7, "retriable-status-codes";
    RETRIABLE_HEADERS = 8, "retriable-headers";
    ENVOY_RATE_LIMITED = 9, "envoy-ratelimited";
    HTTP3_POST_CONNECT_FAILURE = 10, "http3-post-connect-failure";
    GRPC_CANCELLED = 16, "cancelled";
    GRPC_DEADLINE_EXCEEDED = 17, "deadline-exceeded";
    GRPC_RESOURCE_EXHAUSTED = 18, "resource-exhausted";
    GRPC_UNAVAILABLE = 19, "unavailable";
    GRPC_INTERNAL = 20, "internal";
}

impl RetryOn {
    pub const NONE: RetryOn = RetryOn(0);

    pub fn contains(self, other: RetryOn) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn intersects(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Parses a comma-separated list; the second part holds the first unknown word, which Envoy ignores and we report.
    pub fn parse(list: &str) -> (RetryOn, Option<&str>) {
        let mut set = RetryOn::NONE;
        let mut unknown = None;
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match Self::TABLE.iter().find(|(_, text)| *text == word) {
                Some((condition, _)) => set = set | *condition,
                None => unknown = unknown.or(Some(word)),
            }
        }
        (set, unknown)
    }
}

impl std::ops::BitOr for RetryOn {
    type Output = RetryOn;
    fn bitor(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }
}

/// `envoy.config.route.v3.RetryPolicy`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    pub on: RetryOn,
    /// Retries after the first attempt.
    pub num_retries: u32,
    pub per_try_timeout: Option<Duration>,
    pub per_try_idle_timeout: Option<Duration>,
    pub backoff: Backoff,
    /// Wait as the response says, where it does.
    pub rate_limited: Option<RateLimitedBackoff>,
    pub retriable_status_codes: Box<[u16]>,
    /// Response headers that make a response retriable.
    pub retriable_headers: Box<[HeaderMatcher]>,
    /// When not empty, only requests that match one of these are retried.
    pub retriable_request_headers: Box<[HeaderMatcher]>,
    /// How often to pick again when the picked host was already tried (`retry_host_predicate: previous_hosts`).
    pub host_selection_attempts: u32,
    /// Prefer hosts not tried before.
    pub avoid_previous_hosts: bool,
    /// Prefer hosts that have none of these sets of labels (canaries, `omit_host_metadata`).
    pub avoid_labels: Box<[LabelSet]>,
    /// After so many attempts each, leave the priorities that were tried out (`previous_priorities`).
    pub leave_priorities_after: Option<u32>,
}

/// Labels that a host must all have to be meant.
pub type LabelSet = Box<[(Str, Str)]>;

/// `RateLimitedRetryBackOff`: a response may say when to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitedBackoff {
    /// Looked at in turn; the first with a wait that is not longer than `max` counts.
    pub headers: Box<[ResetHeader]>,
    pub max: Duration,
}

/// A response header that says when to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetHeader {
    /// Lower case.
    pub name: Str,
    pub format: ResetFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetFormat {
    /// From now.
    Seconds,
    /// Seconds since 1970.
    UnixTimestamp,
}

impl RateLimitedBackoff {
    /// How long the response asks to wait.
    pub fn asked<H: Headers + ?Sized>(&self, response: &H, wall: UnixNanos) -> Option<Duration> {
        self.headers.iter().find_map(|header| {
            let number: u64 = std::str::from_utf8(response.header(&header.name)?).ok()?.trim().parse().ok()?;
            let seconds = match header.format {
                ResetFormat::Seconds => number,
                ResetFormat::UnixTimestamp => number.checked_sub(wall.secs())?,
            };
            Some(Duration::from_secs(seconds)).filter(|wait| !wait.is_zero() && *wait <= self.max)
        })
    }
}

impl Default for RetryPolicy {
    /// No retries; the numbers are Envoy's defaults for when conditions are given.
    fn default() -> Self {
        RetryPolicy {
            on: RetryOn::NONE,
            num_retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            backoff: Backoff::default(),
            rate_limited: None,
            retriable_status_codes: Box::default(),
            retriable_headers: Box::default(),
            retriable_request_headers: Box::default(),
            host_selection_attempts: 1,
            avoid_previous_hosts: false,
            avoid_labels: Box::default(),
            leave_priorities_after: None,
        }
    }
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Give this outcome to the client.
    Final,
    /// It was retriable but the retries are used up (flag URX).
    LimitExceeded,
    /// Try again at this time; a `RetryBudget` has still to agree.
    RetryAt(Nanos),
}

/// One request's way through its attempts.
#[derive(Clone, Debug)]
pub struct RetryState {
    on: RetryOn,
    remaining: u32,
    done: u32,
    /// From `x-envoy-retriable-status-codes`.
    asked_codes: Vec<u16>,
    /// From `x-envoy-retriable-header-names`.
    asked_headers: Vec<String>,
}

impl RetryState {
    pub fn new(policy: &RetryPolicy) -> Self {
        RetryState {
            on: policy.on,
            remaining: policy.num_retries,
            done: 0,
            asked_codes: Vec::new(),
            asked_headers: Vec::new(),
        }
    }

    /// With what a trusted caller asks for in `x-envoy-retry-on`, `-retry-grpc-on`, `-max-retries`,
    /// `-retriable-status-codes` and `-retriable-header-names`; no retries when the policy's request-header condition does not hold.
    pub fn for_request<R: RequestView + ?Sized>(policy: &RetryPolicy, request: &R) -> Self {
        let mut state = RetryState::new(policy);
        let conditions = &policy.retriable_request_headers;
        if !conditions.is_empty() && !conditions.iter().any(|matcher| matcher.matches(request)) {
            state.on = RetryOn::NONE;
            return state;
        }
        let text = |name| request.header(name).and_then(|value| std::str::from_utf8(value).ok());
        for name in ["x-envoy-retry-on", "x-envoy-retry-grpc-on"] {
            state.on = state.on | text(name).map_or(RetryOn::NONE, |list| RetryOn::parse(list).0);
        }
        if let Some(count) = text("x-envoy-max-retries").and_then(|count| count.trim().parse().ok()) {
            state.remaining = count;
        }
        if let Some(codes) = text("x-envoy-retriable-status-codes") {
            state.asked_codes = codes.split(',').filter_map(|code| code.trim().parse().ok()).collect();
        }
        if let Some(names) = text("x-envoy-retriable-header-names") {
            let names = names.split(',').map(|name| name.trim().to_ascii_lowercase());
            state.asked_headers = names.filter(|name| !name.is_empty()).collect();
        }
        state
    }

    /// Whether a response has a header that makes it retriable.
    pub fn has_retriable_header<H: Headers + ?Sized>(&self, policy: &RetryPolicy, response: &H) -> bool {
        self.on.contains(RetryOn::RETRIABLE_HEADERS)
            && (policy.retriable_headers.iter().any(|matcher| matcher.matches_all(response))
                || self.asked_headers.iter().any(|name| response.header(name).is_some()))
    }

    /// Whether any outcome could lead to a retry, so that the request's body has to be kept.
    pub fn possible(&self) -> bool {
        !self.on.is_empty() && self.remaining > 0
    }

    /// Retries made so far.
    pub fn retries(&self) -> u32 {
        self.done
    }

    /// Decides after an attempt; the caller guarantees that no byte went downstream and that the request's body can be
    /// sent again, and asks the breaker or the retry budget before it acts on `RetryAt`.
    pub fn after(&mut self, policy: &RetryPolicy, outcome: &Outcome, now: Nanos, rng: &mut Rng) -> Decision {
        if !self.retriable(policy, outcome) {
            return Decision::Final;
        }
        self.again(policy, outcome, now, rng)
    }

    /// Another try, as far as there are any left, whether or not the conditions cover this outcome.
    pub fn again(&mut self, policy: &RetryPolicy, outcome: &Outcome, now: Nanos, rng: &mut Rng) -> Decision {
        if self.remaining == 0 {
            return Decision::LimitExceeded;
        }
        self.remaining -= 1;
        self.done += 1;
        Decision::RetryAt(now + policy.wait(outcome, self.done, rng))
    }

    /// Whether the conditions cover this outcome.
    pub fn retriable(&self, policy: &RetryPolicy, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Response { retried: true, .. } => false,
            Outcome::Response { rate_limited: true, .. } => self.on.contains(RetryOn::ENVOY_RATE_LIMITED),
            Outcome::Response { status, grpc_status, retriable_header, .. } => {
                self.retriable_status(policy, *status)
                    || (*retriable_header && self.on.contains(RetryOn::RETRIABLE_HEADERS))
                    || grpc_status.is_some_and(|code| self.retriable_grpc(code))
            }
            Outcome::Reset { reason, request_sent } => self.retriable_reset(*reason, *request_sent),
        }
    }

    fn retriable_status(&self, policy: &RetryPolicy, status: u16) -> bool {
        let listed = || policy.retriable_status_codes.contains(&status) || self.asked_codes.contains(&status);
        ((500..600).contains(&status) && self.on.contains(RetryOn::SERVER_ERROR))
            || (matches!(status, 502..=504) && self.on.contains(RetryOn::GATEWAY_ERROR))
            || (status == 409 && self.on.contains(RetryOn::RETRIABLE_4XX))
            || (self.on.contains(RetryOn::RETRIABLE_STATUS_CODES) && listed())
    }

    fn retriable_grpc(&self, code: u16) -> bool {
        let condition = match code {
            1 => RetryOn::GRPC_CANCELLED,
            4 => RetryOn::GRPC_DEADLINE_EXCEEDED,
            8 => RetryOn::GRPC_RESOURCE_EXHAUSTED,
            13 => RetryOn::GRPC_INTERNAL,
            14 => RetryOn::GRPC_UNAVAILABLE,
            _ => return false,
        };
        self.on.contains(condition)
    }

    fn retriable_reset(&self, reason: ResetReason, request_sent: bool) -> bool {
        let any = RetryOn::SERVER_ERROR | RetryOn::GATEWAY_ERROR | RetryOn::RESET;
        let matching = match reason {
            // Overflow is our own limit: retrying it would defeat it. The overall timeout is over.
            ResetReason::Overflow | ResetReason::GlobalTimeout | ResetReason::NoHealthyHost => return false,
            ResetReason::ConnectFailure => RetryOn::CONNECT_FAILURE,
            ResetReason::RemoteRefused => RetryOn::REFUSED_STREAM,
            ResetReason::ConnectionTermination
            | ResetReason::RemoteReset
            | ResetReason::LocalReset
            | ResetReason::ProtocolError
            | ResetReason::PerTryTimeout => RetryOn::NONE,
        };
        self.on.intersects(any | matching) || (!request_sent && self.on.contains(RetryOn::RESET_BEFORE_REQUEST))
    }
}

impl RetryPolicy {
    fn wait(&self, outcome: &Outcome, retry: u32, rng: &mut Rng) -> Duration {
        if let Outcome::Response { come_back_in: Some(asked), .. } = outcome {
            // Envoy adds up to half again, so that clients told the same second do not return together.
            return *asked + asked.mul_f64(rng.unit() / 2.0);
        }
        self.backoff.wait(retry, rng)
    }
}
