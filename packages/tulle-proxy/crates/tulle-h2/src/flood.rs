//! Budgets for frames that cost us more than they cost the peer (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2025-8671).

use crate::reason::Reason;

/// Milliseconds of any clock that never goes back. It is looked at only when a budget is used up.
pub type Clock = fn() -> u64;

/// Frames of one kind: so many at once, so many a second.
#[derive(Clone, Copy)]
struct Bucket {
    left: u32,
    burst: u32,
    per_second: u32,
    /// Milliseconds of the caller's clock.
    refilled: u64,
}

impl Bucket {
    const fn new(burst: u32, per_second: u32) -> Bucket {
        Bucket { left: burst, burst, per_second, refilled: 0 }
    }

    /// Takes one; the clock is looked at only when none is left.
    fn take(&mut self, now: Clock) -> Result<(), Reason> {
        if self.left == 0 {
            let now = now();
            let earned = now.saturating_sub(self.refilled).saturating_mul(u64::from(self.per_second)) / 1000;
            if earned == 0 {
                return Err(Reason::ENHANCE_YOUR_CALM);
            }
            self.left = u32::try_from(earned).unwrap_or(u32::MAX).min(self.burst);
            self.refilled = now;
        }
        self.left -= 1;
        Ok(())
    }

    /// Useful work earns one.
    fn earn(&mut self) {
        self.left = self.burst.min(self.left + 1);
    }
}

/// Control frames that may wait to be sent, because the peer does not read them.
pub const MAX_QUEUED: u32 = 1000;
/// Frames of one header block.
pub const MAX_CONTINUATIONS: u32 = 32;

pub struct Flood {
    pings: Bucket,
    settings: Bucket,
    unknown: Bucket,
    /// Resets by the peer before the answer began, and resets that the peer's faults made us send.
    resets: Bucket,
    empty_data: u32,
    priorities: u64,
    window_updates: u64,
    data_sent: u64,
    streams: u64,
}

impl Flood {
    pub fn new() -> Flood {
        Flood {
            pings: Bucket::new(1000, 50),
            settings: Bucket::new(100, 5),
            unknown: Bucket::new(1000, 50),
            resets: Bucket::new(200, 50),
            empty_data: 0,
            priorities: 0,
            window_updates: 0,
            data_sent: 0,
            streams: 0,
        }
    }

    pub fn ping(&mut self, now: Clock) -> Result<(), Reason> {
        self.pings.take(now)
    }

    pub fn settings(&mut self, now: Clock) -> Result<(), Reason> {
        self.settings.take(now)
    }

    pub fn unknown(&mut self, now: Clock) -> Result<(), Reason> {
        self.unknown.take(now)
    }

    /// A stream came to nothing by the peer's doing.
    pub fn reset(&mut self, now: Clock) -> Result<(), Reason> {
        self.resets.take(now)
    }

    /// Browsers send frames of extensions (PRIORITY_UPDATE) with their requests.
    pub fn stream(&mut self) {
        self.streams += 1;
        self.unknown.earn();
        self.unknown.earn();
    }

    /// An answer was given: peers that also do useful work may cancel more.
    pub fn answered(&mut self) {
        self.resets.earn();
    }

    /// gRPC measures its paths with a PING per round trip for as long as data flows.
    pub fn data_sent(&mut self) {
        self.data_sent += 1;
        self.pings.earn();
    }

    pub fn data(&mut self, empty: bool) -> Result<(), Reason> {
        if !empty {
            self.empty_data = 0;
            self.pings.earn();
            return Ok(());
        }
        self.empty_data += 1;
        if self.empty_data > 100 { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }

    pub fn priority(&mut self) -> Result<(), Reason> {
        self.priorities += 1;
        if self.priorities > 100 * (1 + self.streams) { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }

    pub fn window_update(&mut self) -> Result<(), Reason> {
        self.window_updates += 1;
        let due = 1000 + 4 * self.streams + 10 * self.data_sent;
        if self.window_updates > due { Err(Reason::ENHANCE_YOUR_CALM) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_refills_with_time_only() {
        let mut bucket = Bucket::new(3, 2);
        for _ in 0..3 {
            bucket.take(|| 0).unwrap();
        }
        assert_eq!(bucket.take(|| 0), Err(Reason::ENHANCE_YOUR_CALM));
        bucket.take(|| 1000).unwrap();
        bucket.take(|| 1000).unwrap();
        assert!(bucket.take(|| 1000).is_err());
        bucket.take(|| 3_600_000).unwrap();
        assert_eq!(bucket.left, 2);
    }

    #[test]
    fn useful_work_raises_what_may_be_reset() {
        let mut flood = Flood::new();
        for _ in 0..10_000 {
            flood.answered();
            flood.reset(|| 0).unwrap();
        }
        assert!((0..300).any(|_| flood.reset(|| 0).is_err()));
    }

    #[test]
    fn pings_go_with_data() {
        let mut flood = Flood::new();
        for n in 0..100_000 {
            if n % 2 == 0 {
                flood.data_sent()
            } else {
                flood.data(false).unwrap()
            }
            flood.ping(|| 0).unwrap();
        }
        assert!((0..2000).any(|_| flood.ping(|| 0).is_err()));
    }

    #[test]
    fn window_updates_go_with_data() {
        let mut flood = Flood::new();
        assert!((0..2000).any(|_| flood.window_update().is_err()));
        let mut busy = Flood::new();
        for _ in 0..10_000 {
            busy.data_sent();
            busy.window_update().unwrap();
            busy.window_update().unwrap();
        }
    }
}
