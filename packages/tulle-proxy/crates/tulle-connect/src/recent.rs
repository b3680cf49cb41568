//! How many requests began within the last interval, counted in slices of it.

use std::time::Duration;

use tulle_core::Nanos;

const SLICES: u64 = 16;

/// Counts by slice, oldest overwritten first. One for each interval that is asked for.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    counts: [u32; SLICES as usize],
    /// The number of the newest slice, counted from the beginning of time.
    newest: u64,
}

fn slice(now: Nanos, interval: Duration) -> u64 {
    let length = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).div_ceil(SLICES).max(1);
    now.0 / length
}

impl Recent {
    /// Empties the slices between the newest one and now.
    fn advance(&mut self, now: u64) {
        for gone in (self.newest + 1..=now).take(SLICES as usize) {
            self.counts[(gone % SLICES) as usize] = 0;
        }
        if now.saturating_sub(self.newest) >= SLICES {
            self.counts = [0; SLICES as usize];
        }
        self.newest = self.newest.max(now);
    }

    pub(crate) fn note(&mut self, now: Nanos, interval: Duration) {
        let now = slice(now, interval);
        self.advance(now);
        let count = &mut self.counts[(now % SLICES) as usize];
        *count = count.saturating_add(1);
    }

    pub(crate) fn count(&mut self, now: Nanos, interval: Duration) -> u32 {
        self.advance(slice(now, interval));
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_interval_does_not_count() {
        let interval = Duration::from_millis(160);
        let mut recent = Recent::default();
        for at in [0, 5, 50, 150] {
            recent.note(Nanos::from_millis(at), interval);
        }
        let mut count = |at| recent.count(Nanos::from_millis(at), interval);
        assert_eq!([150, 159, 165, 215, 1000, 1001].map(&mut count), [4, 4, 2, 1, 0, 0]);
    }
}
