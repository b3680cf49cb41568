//! How long the first answer of a source of configuration is waited for.

use std::time::Duration;

use tulle_core::Nanos;

/// `initial_fetch_timeout` of a source: then whatever waits goes on without. What is longer is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Patience {
    For(Duration),
    Forever,
}

impl Default for Patience {
    /// Envoy's.
    fn default() -> Self {
        Patience::For(Duration::from_secs(15))
    }
}

impl Patience {
    /// Nothing is waited for.
    pub const NONE: Patience = Patience::For(Duration::ZERO);

    /// When what has been waited for since then is given up, if ever.
    pub fn deadline(self, since: Nanos) -> Option<Nanos> {
        match self {
            Patience::For(limit) => Some(since + limit),
            Patience::Forever => None,
        }
    }

    /// Whether that is over.
    pub fn is_over(self, since: Nanos, now: Nanos) -> bool {
        self.deadline(since).is_some_and(|deadline| now >= deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_with_its_time_or_never() {
        let (since, short) = (Nanos::from_secs(1), Patience::For(Duration::from_secs(2)));
        assert!(!short.is_over(since, Nanos::from_secs(2)) && short.is_over(since, Nanos::from_secs(3)));
        assert!(!Patience::Forever.is_over(since, Nanos(u64::MAX)));
        assert!(Patience::NONE < short && short < Patience::default() && Patience::default() < Patience::Forever);
    }
}
