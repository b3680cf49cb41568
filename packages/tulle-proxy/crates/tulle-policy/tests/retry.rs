//! Retry conditions, counts and waits, as tables.

use std::time::Duration;

use tulle_core::{Nanos, Rng, UnixNanos};
use tulle_policy::{
    Decision, Outcome, RateLimitedBackoff, ResetFormat, ResetHeader, ResetReason, RetryOn, RetryPolicy, RetryState,
};

fn policy(on: &str, num_retries: u32) -> RetryPolicy {
    let (on, unknown) = RetryOn::parse(on);
    assert_eq!(unknown, None);
    RetryPolicy { on, num_retries, retriable_status_codes: Box::new([418]), ..RetryPolicy::default() }
}

fn retried(on: &str, outcome: Outcome) -> bool {
    let policy = policy(on, 1);
    matches!(RetryState::new(&policy).after(&policy, &outcome, Nanos::ZERO, &mut Rng::seeded(1)), Decision::RetryAt(_))
}

fn grpc(code: u16) -> Outcome {
    Outcome::Response {
        status: 200,
        grpc_status: Some(code),
        come_back_in: None,
        retriable_header: false,
        rate_limited: false,
        retried: false,
    }
}

/// An answer of a proxy that has retried as often as it may.
fn retried_further_on(status: u16) -> Outcome {
    Outcome::Response {
        status,
        grpc_status: None,
        come_back_in: None,
        retriable_header: true,
        rate_limited: false,
        retried: true,
    }
}

#[test]
fn conditions_cover_what_envoy_says_they_cover() {
    let reset = |reason, request_sent| Outcome::Reset { reason, request_sent };
    let table = [
        ("5xx", Outcome::status(500), true),
        ("5xx", Outcome::status(499), false),
        ("gateway-error", Outcome::status(500), false),
        ("gateway-error", Outcome::status(503), true),
        ("retriable-4xx", Outcome::status(409), true),
        ("retriable-4xx", Outcome::status(404), false),
        ("retriable-status-codes", Outcome::status(418), true),
        ("5xx", Outcome::status(418), false),
        ("unavailable", grpc(14), true),
        ("unavailable", grpc(13), false),
        ("cancelled,internal", grpc(1), true),
        ("5xx", grpc(14), false),
        ("connect-failure", reset(ResetReason::ConnectFailure, false), true),
        ("connect-failure", reset(ResetReason::RemoteReset, true), false),
        ("refused-stream", reset(ResetReason::RemoteRefused, true), true),
        ("refused-stream", reset(ResetReason::ConnectFailure, false), false),
        ("reset", reset(ResetReason::RemoteReset, true), true),
        ("reset-before-request", reset(ResetReason::ConnectionTermination, true), false),
        ("reset-before-request", reset(ResetReason::ConnectionTermination, false), true),
        ("5xx", reset(ResetReason::PerTryTimeout, true), true),
        ("5xx,reset", reset(ResetReason::Overflow, false), false),
        ("5xx,retriable-status-codes,envoy-ratelimited", retried_further_on(503), false),
        ("5xx,reset", reset(ResetReason::GlobalTimeout, true), false),
    ];
    for (on, outcome, expected) in table {
        assert_eq!(retried(on, outcome), expected, "{on}: {outcome:?}");
    }
}

#[test]
fn retries_run_out() {
    let (policy, mut rng) = (policy("5xx", 2), Rng::seeded(1));
    let mut state = RetryState::new(&policy);
    let decisions: Vec<_> =
        (0..3).map(|_| state.after(&policy, &Outcome::status(503), Nanos::ZERO, &mut rng)).collect();
    assert!(matches!(decisions[..], [Decision::RetryAt(_), Decision::RetryAt(_), Decision::LimitExceeded]));
    assert_eq!(state.retries(), 2);
    assert_eq!(state.after(&policy, &Outcome::status(200), Nanos::ZERO, &mut rng), Decision::Final);
}

#[test]
fn a_response_says_when_to_come_back_within_limits() {
    let header = |name: &str, format| ResetHeader { name: name.into(), format };
    let backoff = RateLimitedBackoff {
        headers: [header("retry-after", ResetFormat::Seconds), header("x-reset", ResetFormat::UnixTimestamp)].into(),
        max: Duration::from_secs(10),
    };
    let asked = |headers: &[(&str, &str)]| backoff.asked(headers, UnixNanos(1_000_000_000_000));
    assert_eq!(asked(&[("retry-after", "4")]), Some(Duration::from_secs(4)));
    assert_eq!(asked(&[("retry-after", "60"), ("x-reset", "1003")]), Some(Duration::from_secs(3)));
    for nothing in ["0", "-1", "soon", "11", "Wed, 21 Oct 2015 07:28:00 GMT"] {
        assert_eq!(asked(&[("retry-after", nothing)]), None, "{nothing}");
    }
    assert_eq!(asked(&[("x-reset", "999")]), None, "a time that has passed");
    let (policy, mut rng) = (policy("retriable-status-codes", 2), Rng::seeded(1));
    let outcome = Outcome::Response {
        status: 418,
        grpc_status: None,
        come_back_in: Some(Duration::from_secs(4)),
        retriable_header: false,
        rate_limited: false,
        retried: false,
    };
    let Decision::RetryAt(at) = RetryState::new(&policy).after(&policy, &outcome, Nanos::ZERO, &mut rng) else {
        panic!()
    };
    assert!((4_000..6_000).contains(&at.since(Nanos::ZERO).as_millis()));
}

#[test]
fn unknown_words_are_reported_and_known_ones_kept() {
    let (on, unknown) = RetryOn::parse("5xx, bogus,reset");
    assert!(on.contains(RetryOn::SERVER_ERROR | RetryOn::RESET));
    assert_eq!(unknown, Some("bogus"));
}
