//! What Tulle adds to a cluster beyond Envoy: metadata under `dev.tulle`, which Envoy carries without looking at it.

use std::time::Duration;

use tulle_core::Str;
use tulle_policy::circuit::CircuitConfig;
use tulle_policy::deadline::DeadlineConfig;
use tulle_policy::retry_rate::RetryRate;

/// A cluster's own extensions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Own {
    pub retry_rate: Option<RetryRate>,
    pub deadline: Option<DeadlineConfig>,
    pub circuit: Option<Guarded>,
}

/// A circuit, and what requests get while it is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Guarded {
    pub circuit: CircuitConfig,
    pub fallback: Fallback,
}

/// What is answered while a circuit is open.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Fallback {
    /// 503.
    #[default]
    Refuse,
    Answer {
        status: u16,
        content_type: Str,
        body: Str,
    },
    /// The last successful answer to the same request, while it is not older than this; else 503.
    LastGood {
        max_age: Duration,
        /// A body beyond this is not kept; in bytes.
        max_body: usize,
    },
    /// Another cluster takes the requests.
    Cluster(Str),
}

impl Own {
    pub fn is_empty(&self) -> bool {
        *self == Own::default()
    }
}
