//! Clock: microseconds since a run's start, from one origin for every thread of the run, and the
//! calendar date for file names. Threads hand these numbers around as plain integers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Counts microseconds from one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at zero now.
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Microseconds since the start.
    pub(crate) fn now_us(&self) -> u64 {
        self.origin.elapsed().as_micros() as u64
    }

    /// How long from now until `us`; `None` if that has passed.
    pub(crate) fn until(&self, us: u64) -> Option<Duration> {
        let left = us.checked_sub(self.now_us()).filter(|left| *left > 0)?;
        Some(Duration::from_micros(left))
    }
}

/// The date and time of day in UTC, as `2026-11-25T15-42-07Z`: it sorts, and suits a file name.
pub(crate) fn utc_now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(since.as_secs())
}

fn utc(seconds: u64) -> String {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}Z")
}

/// The date, `days` after 1970-01-01: counted from a 1 March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00-00-00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00-00-00Z");
        assert_eq!(utc(951_868_800), "2000-03-01T00-00-00Z");
        assert_eq!(utc(1_764_085_327), "2025-11-25T15-42-07Z");
        assert_eq!(utc(4_107_542_399), "2100-02-28T23-59-59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00-00-00Z");
    }
}
