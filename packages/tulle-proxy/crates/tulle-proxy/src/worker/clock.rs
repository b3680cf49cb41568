//! The worker's clock: monotonic time since start, wall time, and the `date` header made once a second.

use std::cell::{Cell, RefCell};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tulle_core::{Nanos, UnixNanos};

pub struct Clock {
    started: Instant,
    dated: Cell<u64>,
    date: RefCell<[u8; 29]>,
}

impl Clock {
    /// `started` is the same for all workers, so that their times compare.
    pub fn new(started: Instant) -> Clock {
        Clock { started, dated: Cell::new(u64::MAX), date: RefCell::new([0; 29]) }
    }

    pub fn now(&self) -> Nanos {
        Nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    pub fn wall(&self) -> UnixNanos {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
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
    use super::http_date;

    #[test]
    fn dates_are_those_of_rfc_9110() {
        assert_eq!(&http_date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&http_date(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&http_date(1_709_164_800), b"Thu, 29 Feb 2024 00:00:00 GMT");
    }
}
