//! How many may be inside at once, counted by all workers together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts who is inside. How many may be is said by whoever asks, since that may change while somebody is.
#[derive(Debug, Default)]
pub struct Gate(AtomicU64);

impl Gate {
    /// Counts one more until the guard is dropped; `None` when `most` are inside.
    pub fn enter(self: &Arc<Self>, most: u64) -> Option<Inside> {
        let one_more = |inside| (inside < most).then_some(inside + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Inside(self.clone()))
    }
}

/// One of those inside.
#[derive(Debug)]
pub struct Inside(Arc<Gate>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `envoy.filters.network.connection_limit`: how many connections of a filter chain there may be.
#[derive(Clone, Debug)]
pub struct ConnectionLimit {
    /// Of its statistics.
    pub stat_prefix: tulle_core::Str,
    pub most: u64,
    /// How long a connection beyond that stays, unread, before it is closed; zero: not at all.
    pub delay: std::time::Duration,
    pub gate: Arc<Gate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_allowed_and_one_more_when_one_has_gone() {
        let gate = Arc::<Gate>::default();
        let first = gate.enter(1);
        assert!(first.is_some() && gate.enter(1).is_none());
        assert!(gate.enter(2).is_some(), "the guard is gone at once, and the limit is the asker's");
        drop(first);
        assert!(gate.enter(1).is_some() && gate.enter(0).is_none());
    }
}
