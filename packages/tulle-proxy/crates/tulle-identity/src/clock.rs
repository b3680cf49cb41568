//! The time by which certificates are judged: the system's, with grace for a clock that has just jumped.
//!
//! Certificates live for hours and start minutes before they are made, so a clock set an hour back or forward would
//! make good ones unusable at once, everywhere. For [`GRACE`] after a jump, what is valid by the time before the jump,
//! counted on by the monotonic clock, stays valid. Afterwards the new time is believed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;

/// How long the time before a jump still counts.
pub const GRACE: Duration = Duration::from_secs(2 * 3600);
/// Less is drift, and corrected by and by: the certificates' backdated start allows for it.
const JUMP: u64 = 120;

/// Notices jumps. One for the whole process.
#[derive(Debug, Default)]
pub struct SteadyClock {
    state: Mutex<Option<State>>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Both clocks at one moment.
    system: u64,
    instant: Instant,
    /// When the clock jumped, and what it would show now without.
    jumped: Option<(Instant, Before)>,
}

/// A time and when it was so.
#[derive(Clone, Copy, Debug)]
struct Before {
    system: u64,
    instant: Instant,
}

impl SteadyClock {
    pub const fn new() -> SteadyClock {
        SteadyClock { state: Mutex::new(None) }
    }

    /// Seconds since 1970 as the system says, and as they would be had the clock not jumped in the last [`GRACE`].
    pub fn now(&self) -> (u64, Option<u64>) {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.at(system, Instant::now())
    }

    /// As [`SteadyClock::now`], for what both clocks show.
    fn at(&self, system: u64, instant: Instant) -> (u64, Option<u64>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state.get_or_insert(State { system, instant, jumped: None });
        let expected = known.system + instant.saturating_duration_since(known.instant).as_secs();
        if expected.abs_diff(system) >= JUMP && known.jumped.is_none() {
            known.jumped = Some((instant, Before { system: known.system, instant: known.instant }));
        }
        known.jumped = known.jumped.filter(|(at, _)| instant.saturating_duration_since(*at) < GRACE);
        (known.system, known.instant) = (system, instant);
        let before =
            known.jumped.map(|(_, before)| before.system + instant.saturating_duration_since(before.instant).as_secs());
        (system, before.filter(|before| before.abs_diff(system) >= JUMP))
    }
}

/// The process's clock.
pub static CLOCK: SteadyClock = SteadyClock::new();

/// The times by which a certificate may be judged: the given one first.
pub(crate) fn times(now: UnixTime) -> impl Iterator<Item = UnixTime> {
    let (_, before) = CLOCK.now();
    std::iter::once(now).chain(before.map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_forgiven_for_a_while_and_drift_is_none() {
        let (clock, start) = (SteadyClock::new(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(clock.at(10_000, start), (10_000, None));
        assert_eq!(clock.at(10_105, after(60)), (10_105, None), "45 s are drift");
        assert_eq!(clock.at(6_515, after(70)), (6_515, Some(10_115)), "set back by an hour");
        assert_eq!(clock.at(6_545, after(100)), (6_545, Some(10_145)));
        assert_eq!(clock.at(10_155, after(110)), (10_155, None), "set right again");
        let late = GRACE.as_secs() + 200;
        assert_eq!(clock.at(10_155 + late, after(110 + late)), (10_155 + late, None));
        let jumped = 20_000 + late;
        assert_eq!(clock.at(jumped, after(111 + late)), (jumped, Some(10_156 + late)), "an hour and more forward");
        let end = 112 + late + GRACE.as_secs();
        assert_eq!(clock.at(jumped + 1 + GRACE.as_secs(), after(end)).1, None, "believed in the end");
    }
}
