//! Policies of a request as pure data and pure decisions: matchers, retries, timeouts, limits, rate limits.

pub mod backoff;
pub mod bucket;
pub mod budget;
pub mod limits;
pub mod matcher;
pub mod outcome;
pub mod retry;
pub mod timeout;

pub use backoff::Backoff;
pub use bucket::{TokenBucket, TokenBucketConfig};
pub use budget::RetryBudgetConfig;
pub use limits::{BreakerLimits, CircuitBreakers, Priority};
pub use matcher::{HeaderMatcher, HeaderTest, Regex, StringMatcher, StringTest};
pub use outcome::{Outcome, ResetReason};
pub use retry::{Decision, RetryOn, RetryPolicy, RetryState};
pub use timeout::{TimeoutPolicy, Timeouts};
