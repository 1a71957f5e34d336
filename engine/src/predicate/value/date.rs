//! Dates and times: ISO texts to days and microseconds since the year 2000, and back. No time zone
//! but the one that a text carries, and no `now`: clauses mean the same at all times.

/// Microseconds of a day.
pub(crate) const DAY_MICROS: i64 = 86_400_000_000;
/// The dates that are later and earlier than all others, in days.
pub(crate) const INFINITY_DATE: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
/// The same of timestamps, in microseconds.
pub(crate) const INFINITY_TIME: (i64, i64) = (i64::MIN, i64::MAX);

/// 2000-01-01 in days since 0000-03-01.
const EPOCH_DAYS: i64 = 730_425;
/// The range of dates: 4714-11-24 BC to the end of the year 5874897.
const DATE_MIN: i64 = -2_451_545;
const DATE_MAX: i64 = 2_145_031_948;
/// The first microsecond after the last timestamp, at the end of the year 294276.
const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;

/// Days since 2000 of a day in the proleptic Gregorian calendar. The year 0 is 1 BC.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + days - EPOCH_DAYS
}

/// Year, month and day of a number of days since 2000.
pub(super) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Whether a date of so many days exists.
pub(crate) fn valid_date(days: i64) -> bool {
    (DATE_MIN..=DATE_MAX).contains(&days)
}

/// Whether a timestamp of so many microseconds exists.
pub(crate) fn in_timestamp_range(micros: i64) -> bool {
    (DATE_MIN * DAY_MICROS..TIMESTAMP_END).contains(&micros)
}

/// The same day of the month so many months later; the month's last day where it is shorter.
pub(crate) fn shift_months(days: i64, months: i64) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let index = year * 12 + month - 1 + months;
    let (year, month) = (index.div_euclid(12), index.rem_euclid(12) + 1);
    days_from_civil(year, month, day.min(month_days(year, month)))
}

/// Reads a run of `min..=max` digits.
fn number(text: &[u8], min: usize, max: usize) -> Option<(i64, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count < min || count > max {
        return None;
    }
    let value = text[..count].iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some((value, &text[count..]))
}

type YearMonthDay = (i64, i64, i64);

/// Reads `YYYY-MM-DD`; the year may be longer.
fn day(text: &[u8]) -> Option<(YearMonthDay, &[u8])> {
    let (year, rest) = number(text, 4, 7)?;
    let (month, rest) = number(rest.strip_prefix(b"-")?, 2, 2)?;
    let (day, rest) = number(rest.strip_prefix(b"-")?, 2, 2)?;
    Some(((year, month, day), rest))
}

fn days_of((year, month, day): YearMonthDay, before_christ: bool) -> Option<i64> {
    let year = match (year, before_christ) {
        (0, _) => return None,
        (year, true) => 1 - year,
        (year, false) => year,
    };
    let valid = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    valid.then(|| days_from_civil(year, month, day)).filter(|days| valid_date(*days))
}

fn strip_bc(text: &[u8]) -> (&[u8], bool) {
    match text.strip_suffix(b" BC") {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

fn infinite(text: &[u8], (lowest, highest): (i64, i64)) -> Option<i64> {
    match text {
        b"infinity" => Some(highest),
        b"-infinity" => Some(lowest),
        _ => None,
    }
}

/// Reads a date in ISO form.
pub(crate) fn parse_date(text: &[u8]) -> Option<i64> {
    if let Some(value) = infinite(text, INFINITY_DATE) {
        return Some(value);
    }
    let (text, before_christ) = strip_bc(text);
    let (parts, rest) = day(text)?;
    if rest.is_empty() { days_of(parts, before_christ) } else { None }
}

/// Reads `HH:MM[:SS[.ffffff]]` into microseconds of the day.
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hours, rest) = number(text, 2, 2)?;
    let (minutes, rest) = number(rest.strip_prefix(b":")?, 2, 2)?;
    let (seconds, mut rest) = match rest.strip_prefix(b":") {
        Some(rest) => number(rest, 2, 2)?,
        None => (0, rest),
    };
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let (value, after) = number(fraction, 1, 6)?;
        micros = value * 10_i64.pow(6 - (fraction.len() - after.len()) as u32);
        rest = after;
    }
    let whole = hours <= 24 && minutes < 60 && seconds < 60;
    let value = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros;
    (whole && value <= DAY_MICROS).then_some((value, rest))
}

/// Reads a time of day.
pub(super) fn parse_time(text: &[u8]) -> Option<i64> {
    clock(text).filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

/// Reads `Z`, `+HH`, `+HH:MM` or `+HH:MM:SS` into seconds east of Greenwich.
fn zone(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        [b'Z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = number(rest, 2, 2)?;
    let (minutes, rest) = match rest.strip_prefix(b":") {
        Some(rest) => number(rest, 2, 2)?,
        None => (0, rest),
    };
    let (seconds, rest) = match rest.strip_prefix(b":") {
        Some(rest) => number(rest, 2, 2)?,
        None => (0, rest),
    };
    let valid = rest.is_empty() && hours < 16 && minutes < 60 && seconds < 60;
    valid.then_some(sign * ((hours * 60 + minutes) * 60 + seconds))
}

/// Reads a timestamp in ISO form, with a zone exactly if `zoned`. A date alone is its midnight.
pub(super) fn parse_timestamp(text: &[u8], zoned: bool) -> Option<i64> {
    if let Some(value) = infinite(text, INFINITY_TIME) {
        return Some(value);
    }
    let (text, before_christ) = strip_bc(text);
    let (parts, rest) = day(text)?;
    let days = days_of(parts, before_christ)?;
    let (time, rest) = match rest {
        [b' ' | b'T', rest @ ..] => clock(rest)?,
        [] if !zoned => (0, rest),
        _ => return None,
    };
    let offset = match (zoned, rest) {
        (true, rest) => zone(rest)?,
        (false, []) => 0,
        (false, _) => return None,
    };
    let micros = days.checked_mul(DAY_MICROS)?.checked_add(time)?;
    let micros = micros.checked_sub(offset * 1_000_000)?;
    in_timestamp_range(micros).then_some(micros)
}

/// Writes a date in ISO form.
pub(super) fn format_date(days: i64) -> String {
    let (date, era) = written(days, INFINITY_DATE);
    format!("{date}{era}")
}

fn written(days: i64, (lowest, highest): (i64, i64)) -> (String, &'static str) {
    if days == lowest {
        return ("-infinity".into(), "");
    }
    if days == highest {
        return ("infinity".into(), "");
    }
    let (year, month, day) = civil_from_days(days);
    let (year, era) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

/// Writes a time of day.
pub(super) fn format_time(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction > 0 {
        text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
    text
}

/// Writes a timestamp in ISO form.
pub(super) fn format_timestamp(micros: i64) -> String {
    if micros == INFINITY_TIME.0 {
        return "-infinity".into();
    }
    if micros == INFINITY_TIME.1 {
        return "infinity".into();
    }
    let (days, time) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    let (date, era) = written(days, INFINITY_DATE);
    format!("{date} {}{era}", format_time(time))
}
