//! Pg: a snapshot of Postgres's, as `pg_current_snapshot()` prints it, and which transactions it
//! shows.

use std::fmt;
use std::str::FromStr;

/// Transactions that were running: Postgres has no more backends than this.
const RUNNING_MAX: usize = 1 << 18;
/// Numbers of transactions are compared modulo 2^32: those of one snapshot lie closer together.
const SPAN_MAX: u64 = 1 << 31;

/// Which transactions somebody in Postgres saw: all below `xmin`, none from `xmax` on, and of those
/// between all but the ones that were still running.
///
/// Text form is Postgres's own, `xmin:xmax:running`, as in `10:20:10,14,15`, and may have 32-bit
/// numbers or 64-bit ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgSnapshot {
    xmin: u64,
    xmax: u64,
    /// Strictly rising, each at or above `xmin` and below `xmax`.
    running: Box<[u64]>,
}

/// A text that is no snapshot of Postgres's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePgSnapshotError {
    /// It has not three parts with colons between them.
    #[error("{text:?} is no Postgres snapshot: expected xmin:xmax:running, as in 10:20:10,14,15")]
    Parts {
        /// The text, or its beginning.
        text: String,
    },
    /// Something in it is no number.
    #[error("{part:?} in a Postgres snapshot is no transaction's number: expected 1 to 2^64 - 1")]
    Number {
        /// What it is instead.
        part: String,
    },
    /// `xmax` lies below `xmin`, or so far above that numbers of 32 bits could not be compared.
    #[error("a Postgres snapshot from {xmin} to {xmax}: xmax must be at or above xmin, and nearer")]
    Span {
        /// All below are shown.
        xmin: u64,
        /// None from here on is.
        xmax: u64,
    },
    /// A running transaction lies outside of `xmin` to `xmax`, or not above the one before it.
    #[error(
        "transaction {xid} is running in a Postgres snapshot from {xmin} to {xmax}: running ones \
         rise, and lie between the two"
    )]
    Running {
        /// The transaction.
        xid: u64,
        /// All below are shown.
        xmin: u64,
        /// None from here on is.
        xmax: u64,
    },
    /// More transactions are running than Postgres can run.
    #[error("a Postgres snapshot names more than 2^18 running transactions")]
    TooMany,
}

impl PgSnapshot {
    /// The snapshot that shows all below `xmin`, none from `xmax` on, and not those `running`.
    ///
    /// # Errors
    /// When Postgres could not have such a one.
    pub fn new(
        xmin: u64,
        xmax: u64,
        running: impl IntoIterator<Item = u64>,
    ) -> Result<PgSnapshot, ParsePgSnapshotError> {
        if xmax < xmin || xmax - xmin >= SPAN_MAX {
            return Err(ParsePgSnapshotError::Span { xmin, xmax });
        }
        let mut known = Vec::new();
        for xid in running {
            let rises = known.last().is_none_or(|last| *last < xid);
            if !rises || !(xmin..xmax).contains(&xid) {
                return Err(ParsePgSnapshotError::Running { xid, xmin, xmax });
            }
            if known.len() == RUNNING_MAX {
                return Err(ParsePgSnapshotError::TooMany);
            }
            known.push(xid);
        }
        Ok(PgSnapshot { xmin, xmax, running: known.into() })
    }

    /// All transactions below it are shown.
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// No transaction from here on is shown.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Those between the two that were running, and are not shown; rising.
    pub fn running(&self) -> &[u64] {
        &self.running
    }

    /// Whether it shows the transaction `xid`, as the stream numbers it: with 32 bits, so compared
    /// modulo 2^32, and meant is the one of that number that is nearest to `xmax`.
    pub fn shows(&self, xid: u32) -> bool {
        let above = xid.wrapping_sub(self.xmax as u32) as i32;
        if above >= 0 {
            return false;
        }
        let below = u64::from(above.unsigned_abs());
        // Below the beginning of all numbers there is nothing that could have been running.
        match self.xmax.checked_sub(below) {
            Some(xid) if xid >= self.xmin => self.running.binary_search(&xid).is_err(),
            _ => true,
        }
    }
}

impl fmt::Display for PgSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.running.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{xid}")?;
        }
        Ok(())
    }
}

impl FromStr for PgSnapshot {
    type Err = ParsePgSnapshotError;

    fn from_str(text: &str) -> Result<PgSnapshot, ParsePgSnapshotError> {
        let parts: Vec<_> = text.splitn(4, ':').collect();
        let [xmin, xmax, running] = parts.as_slice() else {
            return Err(ParsePgSnapshotError::Parts { text: beginning(text) });
        };
        if running.bytes().filter(|byte| *byte == b',').count() >= RUNNING_MAX {
            return Err(ParsePgSnapshotError::TooMany);
        }
        let running = running.split(',').filter(|_| !running.is_empty());
        let running = running.map(number).collect::<Result<Vec<_>, _>>()?;
        PgSnapshot::new(number(xmin)?, number(xmax)?, running)
    }
}

fn number(part: &str) -> Result<u64, ParsePgSnapshotError> {
    let digits = part.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| part.parse().ok()).flatten().filter(|number| *number > 0);
    number.ok_or_else(|| ParsePgSnapshotError::Number { part: beginning(part) })
}

/// What of a text an error shows.
fn beginning(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_snapshot_is_refused_by_what_is_wrong() {
        type E = ParsePgSnapshotError;
        let parse = |text: &str| text.parse::<PgSnapshot>().unwrap_err();
        for text in ["", "1", "1:2", "1:2:3:4"] {
            assert!(matches!(parse(text), E::Parts { .. }), "{text}");
        }
        for text in [
            "a:2:",
            "1:-2:",
            "1:+2:",
            ":2:",
            "0:2:",
            "1:3:1,",
            "1:3:1,,2",
            "1: 3:",
            "1:99999999999999999999:",
        ] {
            assert!(matches!(parse(text), E::Number { .. }), "{text}");
        }
        for text in ["2:1:", "1:2147483649:"] {
            assert!(matches!(parse(text), E::Span { .. }), "{text}");
        }
        for text in ["10:20:9", "10:20:20", "10:20:14,14", "10:20:15,14"] {
            assert!(matches!(parse(text), E::Running { .. }), "{text}");
        }
        let many = "1,".repeat(RUNNING_MAX + 1);
        assert_eq!(parse(&format!("1:2:{many}1")), E::TooMany);
    }

    #[test]
    fn the_manual_s_example_shows_what_it_should() {
        let snapshot: PgSnapshot = "10:20:10,14,15".parse().unwrap();
        let shown: Vec<_> = (3..25).filter(|xid| snapshot.shows(*xid)).collect();
        assert_eq!(shown, [3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 18, 19]);
        assert_eq!(snapshot.to_string(), "10:20:10,14,15");
        assert!("10:10:".parse::<PgSnapshot>().unwrap().running().is_empty());
    }

    /// A snapshot somewhere in Postgres's life, most often where 32 bits come to their end.
    fn snapshot() -> impl Strategy<Value = PgSnapshot> {
        let xmin = prop_oneof![
            1u64..1 << 40,
            (1u64..5, -200i64..200)
                .prop_map(|(epoch, near)| { (epoch << 32).saturating_add_signed(near) }),
        ];
        (xmin, prop_oneof![0u64..100, 0..SPAN_MAX]).prop_flat_map(|(xmin, span)| {
            let running = prop::collection::btree_set(xmin..=xmin + span, 0..20);
            running.prop_map(move |running| {
                let running = running.into_iter().filter(|xid| *xid < xmin + span);
                PgSnapshot::new(xmin, xmin + span, running).unwrap()
            })
        })
    }

    proptest! {
        #[test]
        fn text_round_trips(snapshot in snapshot()) {
            prop_assert_eq!(snapshot.to_string().parse(), Ok(snapshot));
        }

        /// The oracle has 64 bits, and no arithmetic.
        #[test]
        fn thirty_two_bits_of_a_number_say_what_all_of_them_say(
            snapshot in snapshot(), near in prop_oneof![-300i64..300, -(1i64 << 31)..1 << 31],
            which in any::<prop::sample::Index>(),
        ) {
            let shows = |xid: u64| {
                let runs = snapshot.running().contains(&xid);
                xid < snapshot.xmin() || (xid < snapshot.xmax() && !runs)
            };
            let (xmin, xmax) = (snapshot.xmin(), snapshot.xmax());
            let running = snapshot.running();
            let running = (!running.is_empty()).then(|| running[which.index(running.len())]);
            let asked = [
                xmax.saturating_add_signed(near), xmin.saturating_add_signed(near),
                xmin, xmin - 1, xmax, xmax - 1, running.unwrap_or(xmin),
            ];
            for xid in asked {
                let away = xid as i128 - i128::from(xmax);
                if (-(1i128 << 31)..1 << 31).contains(&away) {
                    prop_assert_eq!(snapshot.shows(xid as u32), shows(xid), "{}", xid);
                }
            }
        }
    }
}
