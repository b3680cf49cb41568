//! Policies of a request as pure data and pure decisions: matchers, retries, timeouts, limits, rate limits.

pub mod authorizer;
pub mod backoff;
pub mod bucket;
pub mod budget;
pub mod circuit;
pub mod cors;
pub mod deadline;
pub mod descriptors;
pub mod fault;
pub mod gradient;
pub mod limits;
pub mod local_rate_limit;
pub mod matcher;
pub mod outcome;
pub mod overrides;
pub mod rbac;
pub mod retry;
pub mod retry_rate;
pub mod shared_bucket;
pub mod template;
pub mod timeout;

pub use backoff::Backoff;
pub use bucket::{TokenBucket, TokenBucketConfig};
pub use budget::RetryBudgetConfig;
pub use cors::CorsPolicy;
pub use fault::Fault;
pub use limits::{BreakerLimits, CircuitBreakers, Priority};
pub use local_rate_limit::LocalRateLimit;
pub use matcher::{HeaderMatcher, HeaderTest, Regex, StringMatcher, StringTest};
pub use outcome::{Outcome, ResetReason};
pub use overrides::{FilterOverride, FilterOverrides};
pub use rbac::Rbac;
pub use retry::{Decision, RateLimitedBackoff, ResetFormat, ResetHeader, RetryOn, RetryPolicy, RetryState};
pub use shared_bucket::SharedBucket;
pub use timeout::{StreamLimits, TimeoutPolicy, Timeouts};
