//! Wall-clock times in `strftime` formats, in UTC, without a time library.

use std::cell::Cell;

use tulle_core::{Str, UnixNanos};

use crate::format::FormatError;

/// A compiled time format.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum TimeFormat {
    /// RFC 3339 with milliseconds, as Envoy's `%START_TIME%`: on nearly every line, so written in one go.
    #[default]
    Rfc3339,
    Pieces(Box<[Piece]>),
}

/// A part of a format that was written out.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Literal(Str),
    /// A number of the broken-down time, padded to a width with zeros (or spaces for `%e`).
    Number {
        part: Part,
        width: usize,
        pad: u8,
    },
    /// The first `n` digits of the nanoseconds.
    Fraction(usize),
    MonthName {
        short: bool,
    },
    DayName {
        short: bool,
    },
    AmPm,
}

/// A number of a broken-down time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Year,
    YearOfCentury,
    Month,
    Day,
    Hour,
    Hour12,
    Minute,
    Second,
    DayOfYear,
    Epoch,
}

/// A UTC date and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
    /// 1 to 31.
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
    /// 0 is Sunday.
    pub weekday: u64,
    /// 1 to 366.
    pub day_of_year: u64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Civil {
    /// Howard Hinnant's `civil_from_days`, for times since 1970.
    pub fn from_unix(time: UnixNanos) -> Self {
        let (days, rest) = (time.secs() / 86_400, time.secs() % 86_400);
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_march_year + 2) / 153;
        let day = day_of_march_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let leap = u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)));
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize - 1];
        Civil {
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4) % 7,
            day_of_year: before + day + if month > 2 { leap } else { 0 },
        }
    }
}

impl TimeFormat {
    /// Compiles a `strftime` format with Envoy's `%1f`…`%9f`, `%f` and `%s`.
    pub fn parse(format: &str) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = format.char_indices();
        while let Some((at, character)) = rest.next() {
            if character != '%' {
                literal.push(character);
                continue;
            }
            let mut code = rest.next().map(|(_, code)| code);
            let digits = code.and_then(|code| code.to_digit(10)).map(|digits| digits as usize);
            if digits.is_some() {
                code = rest.next().map(|(_, code)| code).filter(|code| *code == 'f');
            }
            let unknown = || FormatError { at, reason: "unknown time specifier".to_owned() };
            let code = code.ok_or_else(unknown)?;
            if let Some(text) = fixed(code) {
                literal.push_str(text);
                continue;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
            }
            pieces.extend(expand(code, digits).ok_or_else(unknown)?);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        Ok(TimeFormat::Pieces(pieces.into()))
    }

    /// Appends `time`.
    pub fn write(&self, time: UnixNanos, out: &mut Vec<u8>) {
        let pieces = match self {
            TimeFormat::Rfc3339 => return rfc3339(time, out),
            TimeFormat::Pieces(pieces) => pieces,
        };
        let civil = Civil::from_unix(time);
        for piece in pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Number { part, width, pad } => pad_number(part.of(&civil, time), *width, *pad, out),
                Piece::Fraction(digits) => {
                    let scaled = u64::from(time.subsec_nanos()) / 10u64.pow(9 - *digits as u32);
                    pad_number(scaled, *digits, b'0', out);
                }
                Piece::MonthName { short } => name(MONTHS[civil.month as usize - 1], *short, out),
                Piece::DayName { short } => name(DAYS[civil.weekday as usize], *short, out),
                Piece::AmPm => out.extend_from_slice(if civil.hour < 12 { b"AM" } else { b"PM" }),
            }
        }
    }
}

thread_local! {
    /// The second that was written last, and its text: most lines are of the same second as the one before.
    static LAST: Cell<(u64, [u8; 24])> = const { Cell::new((u64::MAX, [0; 24])) };
}

fn rfc3339(time: UnixNanos, out: &mut Vec<u8>) {
    let (second, mut text) = LAST.get();
    if second != time.secs() {
        text = rfc3339_second(&Civil::from_unix(time));
        LAST.set((time.secs(), text));
    }
    let milliseconds = time.subsec_nanos() / 1_000_000;
    for (at, value) in [(20, milliseconds / 100), (21, milliseconds / 10 % 10), (22, milliseconds % 10)] {
        text[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&text);
}

/// A second with zero milliseconds.
fn rfc3339_second(civil: &Civil) -> [u8; 24] {
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (at, value) in [
        (0, civil.year / 100 % 100),
        (2, civil.year % 100),
        (5, civil.month),
        (8, civil.day),
        (11, civil.hour),
        (14, civil.minute),
        (17, civil.second),
    ] {
        text[at] = b'0' + (value / 10) as u8;
        text[at + 1] = b'0' + (value % 10) as u8;
    }
    text
}

fn name(full: &str, short: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if short { &full.as_bytes()[..3] } else { full.as_bytes() });
}

/// Specifiers whose text never changes, since times are in UTC.
fn fixed(code: char) -> Option<&'static str> {
    Some(match code {
        'z' => "+0000",
        'Z' => "UTC",
        '%' => "%",
        'n' => "\n",
        't' => "\t",
        _ => return None,
    })
}

fn expand(code: char, digits: Option<usize>) -> Option<Vec<Piece>> {
    let two = |part| vec![Piece::Number { part, width: 2, pad: b'0' }];
    Some(match (code, digits) {
        ('f', None) => vec![Piece::Fraction(9)],
        ('f', Some(digits @ 1..=9)) => vec![Piece::Fraction(digits)],
        ('Y', _) => vec![Piece::Number { part: Part::Year, width: 4, pad: b'0' }],
        ('y', _) => two(Part::YearOfCentury),
        ('m', _) => two(Part::Month),
        ('d', _) => two(Part::Day),
        ('e', _) => vec![Piece::Number { part: Part::Day, width: 2, pad: b' ' }],
        ('H', _) => two(Part::Hour),
        ('I', _) => two(Part::Hour12),
        ('M', _) => two(Part::Minute),
        ('S', _) => two(Part::Second),
        ('j', _) => vec![Piece::Number { part: Part::DayOfYear, width: 3, pad: b'0' }],
        ('s', _) => vec![Piece::Number { part: Part::Epoch, width: 1, pad: b'0' }],
        ('b' | 'h', _) => vec![Piece::MonthName { short: true }],
        ('B', _) => vec![Piece::MonthName { short: false }],
        ('a', _) => vec![Piece::DayName { short: true }],
        ('A', _) => vec![Piece::DayName { short: false }],
        ('p', _) => vec![Piece::AmPm],
        ('F', _) => sequence("%Y-%m-%d")?,
        ('T', _) => sequence("%H:%M:%S")?,
        ('R', _) => sequence("%H:%M")?,
        ('D', _) => sequence("%m/%d/%y")?,
        _ => return None,
    })
}

fn sequence(format: &str) -> Option<Vec<Piece>> {
    match TimeFormat::parse(format).ok()? {
        TimeFormat::Pieces(pieces) => Some(pieces.into_vec()),
        TimeFormat::Rfc3339 => None,
    }
}

impl Part {
    fn of(self, civil: &Civil, time: UnixNanos) -> u64 {
        match self {
            Part::Year => civil.year,
            Part::YearOfCentury => civil.year % 100,
            Part::Month => civil.month,
            Part::Day => civil.day,
            Part::Hour => civil.hour,
            Part::Hour12 => (civil.hour + 11) % 12 + 1,
            Part::Minute => civil.minute,
            Part::Second => civil.second,
            Part::DayOfYear => civil.day_of_year,
            Part::Epoch => time.secs(),
        }
    }
}

fn pad_number(number: u64, width: usize, pad: u8, out: &mut Vec<u8>) {
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    out.extend(std::iter::repeat_n(pad, width.saturating_sub(digits)));
    crate::text::number(number, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(format: &str, nanos: u64) -> String {
        let mut out = Vec::new();
        TimeFormat::parse(format).unwrap().write(UnixNanos(nanos), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn formats_known_moments() {
        // 2024-02-29T12:34:56.007 was a Thursday, day 60.
        let leap = 1_709_210_096_007_000_000;
        let mut out = Vec::new();
        for (later, expected) in
            [(0, "2024-02-29T12:34:56.007Z"), (992, "2024-02-29T12:34:56.999Z"), (993, "2024-02-29T12:34:57.000Z")]
        {
            out.clear();
            TimeFormat::default().write(UnixNanos(leap + later * 1_000_000), &mut out);
            assert_eq!(out, expected.as_bytes());
        }
        assert_eq!(show("%Y-%m-%dT%H:%M:%S.%3fZ", leap), "2024-02-29T12:34:56.007Z");
        assert_eq!(show("%d/%b/%Y:%T %z %j %a", leap), "29/Feb/2024:12:34:56 +0000 060 Thu");
        assert_eq!(show("%s.%3f|%6f|%f", leap), "1709210096.007|007000|007000000");
        assert_eq!(show("%F %R %% %e", 0), "1970-01-01 00:00 %  1");
        assert_eq!(show("%I%p %y %j", 1_735_689_599_000_000_000), "11PM 24 366");
    }

    #[test]
    fn unknown_specifiers_are_refused() {
        for format in ["%Q", "%", "%3", "%3d", "%0f"] {
            assert!(TimeFormat::parse(format).is_err(), "{format}");
        }
    }
}
