//! Offset: the position of one change, `(commit LSN, op index)`, with its text form `lsn_op`.
//! A change's own LSN is neither unique nor monotone in the stream; its offset is both (INV7).

use super::lsn::Lsn;
use std::fmt;
use std::str::FromStr;

/// The position of a change in the stream: its transaction's commit LSN, then its op index.
///
/// The op index advances by 2 a change, so that one change can be split in two. A transaction's
/// commit mark is the position after all its changes. Text form: `16/B374D848_4`, and for a commit
/// mark `16/B374D848_max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    /// The transaction's commit LSN.
    pub commit: Lsn,
    /// The change's index in its transaction, in steps of 2.
    pub op: u64,
}

impl Offset {
    /// How far the op index advances from one change to the next.
    pub const OP_STEP: u64 = 2;
    /// Before everything.
    pub const ZERO: Offset = Offset { commit: Lsn::ZERO, op: 0 };

    /// The offset of op `op` of the transaction that commits at `commit`.
    pub const fn new(commit: Lsn, op: u64) -> Offset {
        Offset { commit, op }
    }

    /// The position after all changes of the transaction that commits at `commit`.
    pub const fn commit_mark(commit: Lsn) -> Offset {
        Offset { commit, op: u64::MAX }
    }

    /// Whether this is the position of a commit and not of a change.
    pub const fn is_commit_mark(self) -> bool {
        self.op == u64::MAX
    }

    /// The highest LSN such that every commit at or below it lies wholly at or below this offset.
    pub(crate) const fn complete_through(self) -> Lsn {
        if self.is_commit_mark() { self.commit } else { self.commit.previous() }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_commit_mark() {
            write!(f, "{}_max", self.commit)
        } else {
            write!(f, "{}_{}", self.commit, self.op)
        }
    }
}

/// A text that is no offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no offset: expected an LSN and an op index, as in 16/B374D848_4")]
pub struct ParseOffsetError {
    text: String,
}

impl FromStr for Offset {
    type Err = ParseOffsetError;

    fn from_str(text: &str) -> Result<Offset, ParseOffsetError> {
        let parse = || {
            let (lsn, op) = text.split_once('_')?;
            let commit = lsn.parse().ok()?;
            let op = match op {
                "max" => u64::MAX,
                digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
                _ => return None,
            };
            Some(Offset { commit, op })
        };
        parse().ok_or_else(|| ParseOffsetError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_commit_mark_is_after_every_change_and_before_the_next_transaction() {
        let mark = Offset::commit_mark(Lsn::new(7));
        assert!(Offset::new(Lsn::new(7), u64::MAX - 1) < mark);
        assert!(mark < Offset::new(Lsn::new(8), 0));
        assert_eq!(mark.to_string(), "0/7_max");
        assert_eq!("0/7_max".parse(), Ok(mark));
    }

    #[test]
    fn an_offset_inside_a_transaction_does_not_complete_it() {
        assert_eq!(Offset::new(Lsn::new(7), 4).complete_through(), Lsn::new(6));
        assert_eq!(Offset::commit_mark(Lsn::new(7)).complete_through(), Lsn::new(7));
    }

    #[test]
    fn text_that_is_no_offset_is_refused() {
        for text in ["", "_", "0/1", "0/1_", "_1", "0/1_x", "0/1_-1", "0/1_+1", "1_1"] {
            assert!(text.parse::<Offset>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(commit: u64, op: u64) {
            let offset = Offset::new(Lsn::new(commit), op);
            prop_assert_eq!(offset.to_string().parse(), Ok(offset));
        }
    }
}
