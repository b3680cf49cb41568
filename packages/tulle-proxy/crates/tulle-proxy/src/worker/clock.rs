//! The worker's clock: monotonic time since start, wall time, and the `date` header made once a second.
//!
//! A worker handles many events each time it wakes, and each asks for the time more than once. The clock is read when a
//! turn of the worker's loop first asks, and that answer stands for the turn, as in Envoy's event loop. A long turn does
//! not make it wrong: after some questions the clock is read again.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tulle_core::{Nanos, UnixNanos};

/// Questions that one reading answers at most: those of a few requests.
const ANSWERS: u32 = 64;

thread_local! {
    /// Counts the turns of this thread's loop; 0 where nobody counts, and then every question reads the clock.
    static TURN: Cell<u64> = const { Cell::new(0) };
}

/// Tells that this thread has just woken up.
pub fn next_turn() {
    TURN.with(|turn| turn.set(turn.get() + 1));
}

#[derive(Clone, Copy)]
struct Reading {
    turn: u64,
    answers: u32,
    instant: Instant,
    /// The same, as worker's time.
    now: Nanos,
    /// Read only when it is asked for.
    wall: Option<UnixNanos>,
}

pub struct Clock {
    started: Instant,
    last: Cell<Reading>,
    dated: Cell<u64>,
    date: RefCell<[u8; 29]>,
}

impl Clock {
    /// `started` is the same for all workers, so that their times compare.
    pub fn new(started: Instant) -> Clock {
        let last = Cell::new(Reading { turn: 0, answers: ANSWERS, instant: started, now: Nanos(0), wall: None });
        Clock { started, last, dated: Cell::new(u64::MAX), date: RefCell::new([0; 29]) }
    }

    fn read(&self) -> Reading {
        let turn = TURN.with(Cell::get);
        let mut last = self.last.get();
        if turn == 0 || last.turn != turn || last.answers >= ANSWERS {
            let instant = Instant::now();
            let since: Duration = instant.saturating_duration_since(self.started);
            let now = Nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
            last = Reading { turn, answers: 0, instant, now, wall: None };
        }
        last.answers += 1;
        self.last.set(last);
        last
    }

    pub fn now(&self) -> Nanos {
        self.read().now
    }

    /// Now, for timers.
    pub fn instant(&self) -> tokio::time::Instant {
        self.read().instant.into()
    }

    /// Worker's time, for timers.
    pub fn instant_of(&self, time: Nanos) -> tokio::time::Instant {
        (self.started + Duration::from_nanos(time.0)).into()
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn wall(&self) -> UnixNanos {
        let reading = self.read();
        reading.wall.unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let wall = UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
            self.last.set(Reading { wall: Some(wall), ..reading });
            wall
        })
    }

    /// The current time as RFC 9110 §5.6.7 writes it.
    pub fn date(&self) -> [u8; 29] {
        let now = self.wall().secs();
        if self.dated.replace(now) != now {
            self.date.replace(http_date(now));
        }
        *self.date.borrow()
    }
}

/// IMF-fixdate of seconds since 1970 (civil-from-days by era arithmetic).
fn http_date(secs: u64) -> [u8; 29] {
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    out[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    let at = (month as usize - 1) * 3;
    out[8..11].copy_from_slice(&MONTHS[at..at + 3]);
    for (place, value) in
        [(5, day), (12, year / 100), (14, year % 100), (17, rest / 3600), (20, rest / 60 % 60), (23, rest % 60)]
    {
        out[place] = b'0' + (value / 10) as u8;
        out[place + 1] = b'0' + (value % 10) as u8;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_stands_for_a_turn_but_not_for_ever() {
        let clock = Clock::new(Instant::now());
        next_turn();
        let first = clock.now();
        while Instant::now() == clock.started() + Duration::from_nanos(first.0) {}
        assert_eq!((clock.now(), clock.wall()), (first, clock.wall()));
        let later = (0..ANSWERS).map(|_| clock.now()).last();
        assert!(later > Some(first));
        let of_turn = clock.now();
        next_turn();
        assert!(clock.now() > of_turn);
    }

    #[test]
    fn dates_are_those_of_rfc_9110() {
        assert_eq!(&http_date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&http_date(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&http_date(1_709_164_800), b"Thu, 29 Feb 2024 00:00:00 GMT");
    }
}
