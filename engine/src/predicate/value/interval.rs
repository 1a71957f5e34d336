//! Intervals: months, days and microseconds, compared as Postgres does, with months of 30 days and
//! days of 24 hours.

use super::date::DAY_MICROS;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

/// A span of time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Interval {
    pub(crate) months: i32,
    pub(crate) days: i32,
    pub(crate) micros: i64,
}

impl Interval {
    fn span(self) -> i128 {
        (i128::from(self.months) * 30 + i128::from(self.days)) * i128::from(DAY_MICROS)
            + i128::from(self.micros)
    }

    /// Its length, as far as 64 bits hold it.
    pub(super) fn order(self) -> i64 {
        self.span().clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// The sum, if it is in range.
    pub(crate) fn add(self, other: Interval) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_add(other.months)?,
            days: self.days.checked_add(other.days)?,
            micros: self.micros.checked_add(other.micros)?,
        })
    }

    /// The negative, if it is in range.
    pub(crate) fn negate(self) -> Option<Interval> {
        Some(Interval {
            months: self.months.checked_neg()?,
            days: self.days.checked_neg()?,
            micros: self.micros.checked_neg()?,
        })
    }

    /// Reads what Postgres prints (`1 year 2 mons -3 days 04:05:06.7`), and the same with units for
    /// the time of day too.
    pub(super) fn parse(text: &[u8]) -> Option<Interval> {
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text.split_ascii_whitespace().peekable();
        words.peek()?;
        let mut total = Interval::default();
        while let Some(word) = words.next() {
            if word.contains(':') {
                total.micros = total.micros.checked_add(clock(word)?)?;
                if words.peek().is_some() {
                    return None;
                }
                break;
            }
            let count: i32 = word.parse().ok()?;
            total = total.add(unit(words.next()?, count)?)?;
        }
        Some(total)
    }
}

fn unit(name: &str, count: i32) -> Option<Interval> {
    let months =
        |each: i32| Some(Interval { months: count.checked_mul(each)?, ..Interval::default() });
    let days = |each: i32| Some(Interval { days: count.checked_mul(each)?, ..Interval::default() });
    let seconds = |each: i64| {
        let micros = i64::from(count).checked_mul(each)?.checked_mul(1_000_000)?;
        Some(Interval { micros, ..Interval::default() })
    };
    match name.to_ascii_lowercase().as_str() {
        "year" | "years" => months(12),
        "mon" | "mons" | "month" | "months" => months(1),
        "week" | "weeks" => days(7),
        "day" | "days" => days(1),
        "hour" | "hours" => seconds(3_600),
        "minute" | "minutes" | "min" | "mins" => seconds(60),
        "second" | "seconds" | "sec" | "secs" => seconds(1),
        _ => None,
    }
}

/// Reads `[-]HH:MM:SS[.ffffff]`; hours may have any number of digits.
fn clock(word: &str) -> Option<i64> {
    let (negative, rest) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let mut parts = rest.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || minutes.len() != 2 {
        return None;
    }
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.len() != 2
        || fraction.len() > 6
        || ![hours, minutes, seconds, fraction].iter().all(|t| plain(t))
    {
        return None;
    }
    let hours: i64 = hours.parse().ok()?;
    let (minutes, seconds): (i64, i64) = (minutes.parse().ok()?, seconds.parse().ok()?);
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    let whole = hours.checked_mul(3_600)?.checked_add(minutes * 60 + seconds)?;
    let micros = whole.checked_mul(1_000_000)?.checked_add(fraction)?;
    Some(if negative { -micros } else { micros })
}

impl PartialEq for Interval {
    fn eq(&self, other: &Interval) -> bool {
        self.span() == other.span()
    }
}

impl Eq for Interval {}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Interval) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Interval {
    fn cmp(&self, other: &Interval) -> Ordering {
        self.span().cmp(&other.span())
    }
}

impl Hash for Interval {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.span().hash(state);
    }
}
