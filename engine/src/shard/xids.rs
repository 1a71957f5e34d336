//! Xids: which transactions came here, by the numbers that Postgres gave them. A commit is in the
//! WAL, and may have come here, a moment before others in Postgres see it; for as long as it likes
//! where it waits for a standby. Rows that were read meanwhile do not show it, so a shape that was
//! added behind it would have it nowhere.
//!
//! Numbers have 32 bits and come again: of two the later one is ahead by less than 2^31.

use crate::snapshot::PgSnapshot;
use crate::words::Lsn;
use roaring::RoaringBitmap;
use std::collections::VecDeque;

/// Of so many it is known where they commit.
const RECENT: usize = 16_384;
/// Of those before, numbers are kept so far back; 2 MiB of them at most.
const KEPT: u32 = 1 << 24;
/// After so many it is looked which ones lie further back.
const TRIM_EVERY: u32 = 1 << 16;
/// What lies further back than this has ended: Postgres itself stops before 2^31.
const AGE_MAX: u32 = 1 << 30;

/// See the file's head.
pub(super) struct Xids {
    /// The last ones, with their commits.
    recent: VecDeque<(Lsn, u32)>,
    /// Those before.
    older: RoaringBitmap,
    untrimmed: u32,
    /// The latest number of all in `older`.
    newest: Option<u32>,
    unknown: Unknown,
}

/// Which transactions may have come that are in neither.
enum Unknown {
    None,
    /// Those through this one.
    Through(u32),
    /// Nobody has said yet what came before the directory was opened.
    Any,
}

/// What a snapshot must show and does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// This transaction, which came, or may have.
    Xid(u32),
    /// Nobody can say.
    Untold,
}

impl Xids {
    /// Of a shard that `has_past`: something came before it was opened.
    pub(super) fn new(has_past: bool) -> Xids {
        let unknown = if has_past { Unknown::Any } else { Unknown::None };
        let (recent, older) = Default::default();
        Xids { recent, older, untrimmed: 0, newest: None, unknown }
    }

    /// Notes a transaction. One that came before may come again.
    pub(super) fn note(&mut self, commit: Lsn, xid: u32) {
        self.recent.push_back((commit, xid));
        if let Unknown::Through(through) = self.unknown
            && is_later(xid, through)
            && xid.wrapping_sub(through) >= AGE_MAX
        {
            self.unknown = Unknown::None;
        }
        if self.recent.len() > RECENT
            && let Some((_, old)) = self.recent.pop_front()
        {
            self.keep(old);
        }
    }

    fn keep(&mut self, old: u32) {
        self.older.insert(old);
        let newest = self.newest.filter(|newest| is_later(*newest, old)).unwrap_or(old);
        self.newest = Some(newest);
        self.untrimmed += 1;
        if self.untrimmed == TRIM_EVERY {
            self.untrimmed = 0;
            self.trim(newest);
        }
    }

    /// Forgets what lies too far back.
    fn trim(&mut self, newest: u32) {
        let first = newest.wrapping_sub(KEPT);
        // The half of all numbers that lies before it, which may be in two pieces.
        let half = first.wrapping_sub(1 << 31);
        let gone = if half < first {
            self.older.remove_range(half..first)
        } else {
            self.older.remove_range(half..) + self.older.remove_range(..first)
        };
        if gone > 0 {
            self.forgotten_through(first.wrapping_sub(1));
        }
    }

    /// The source says that transactions through `xid` may have come and not be known.
    pub(super) fn unknown_through(&mut self, xid: u32) {
        match self.unknown {
            Unknown::Through(through) if !is_later(xid, through) => {}
            _ => self.unknown = Unknown::Through(xid),
        }
    }

    /// What has come is forgotten through `xid`. That says nothing of what nobody has told.
    fn forgotten_through(&mut self, xid: u32) {
        if !matches!(self.unknown, Unknown::Any) {
            self.unknown_through(xid);
        }
    }

    /// What came through the commit `through`, or may have, and is not in rows that were read under
    /// `shown`. Of an older transaction it is not known whether it committed at or below `through`;
    /// it is taken for one that did.
    pub(super) fn missing(&self, through: Lsn, shown: &PgSnapshot) -> Option<Missing> {
        let unknown = match self.unknown {
            Unknown::None => None,
            // None below is running, and none from there on has come.
            Unknown::Through(last) => {
                Some(shown.xmin() as u32).filter(|xmin| !is_later(*xmin, last))
            }
            Unknown::Any => return Some(Missing::Untold),
        };
        let recent = || {
            let before = self.recent.iter().filter(|(commit, _)| *commit <= through);
            before.map(|(_, xid)| *xid).find(|xid| !shown.shows(*xid))
        };
        unknown.or_else(recent).or_else(|| self.older_missing(shown)).map(Missing::Xid)
    }

    fn older_missing(&self, shown: &PgSnapshot) -> Option<u32> {
        let mut running = shown.running().iter().map(|xid| *xid as u32);
        let beyond = || {
            let xmax = shown.xmax() as u32;
            let half = xmax.wrapping_add(1 << 31);
            let mut pieces = if xmax < half {
                [self.older.range(xmax..half), self.older.range(..0)]
            } else {
                [self.older.range(xmax..), self.older.range(..half)]
            };
            pieces.iter_mut().find_map(Iterator::next)
        };
        running.find(|xid| self.older.contains(*xid)).or_else(beyond)
    }
}

/// Whether `xid` was given out after `other`.
fn is_later(xid: u32, other: u32) -> bool {
    (xid.wrapping_sub(other) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> PgSnapshot {
        text.parse().unwrap()
    }

    const EVER: Lsn = Lsn::new(u64::MAX - 1);

    #[test]
    fn g11_an_old_transaction_that_still_runs_for_others_is_missing() {
        let mut xids = Xids::new(false);
        // 50 ends at once in the WAL, and waits for its standby; 51 goes on to run.
        for xid in [50].into_iter().chain(52..100_000) {
            xids.note(Lsn::new(u64::from(xid)), xid);
        }
        let missing = |text: &str| xids.missing(EVER, &shown(text));
        assert_eq!(missing("50:100000:50,51"), Some(Missing::Xid(50)));
        assert_eq!(missing("51:100000:51"), None, "it never came");
        assert!(missing("60000:60000:").is_some());
        assert_eq!(missing("100000:100000:"), None);
        // What is known to commit behind the shape's beginning is in its log.
        let missing = xids.missing(Lsn::new(99_000), &shown("99001:100000:99001"));
        assert_eq!(missing, None);
    }

    #[test]
    fn g11_what_came_before_the_opening_is_for_the_source_to_say() {
        let mut xids = Xids::new(true);
        let before = |xids: &Xids, text: &str| xids.missing(Lsn::new(1), &shown(text));
        assert_eq!(before(&xids, "90:90:"), Some(Missing::Untold));
        xids.unknown_through(70);
        xids.unknown_through(60);
        assert_eq!(before(&xids, "70:90:70"), Some(Missing::Xid(70)));
        assert_eq!(before(&xids, "71:90:71"), None);
        // Numbers come again: in half of all of them everybody would be refused.
        xids.note(EVER, 70 + AGE_MAX);
        assert_eq!(before(&xids, "60:90:60"), None);
    }

    #[test]
    fn what_is_forgotten_may_have_come() {
        for first in [5, u32::MAX - 9, KEPT - 9, (1 << 31) - 40, (1 << 31) + 40] {
            let mut xids = Xids::new(false);
            let mut next = first;
            for _ in 0..=RECENT as u32 + TRIM_EVERY {
                xids.note(EVER, next);
                next = next.wrapping_add(KEPT / TRIM_EVERY + 1);
            }
            let older = xids.older.len();
            assert!(older < u64::from(TRIM_EVERY), "{older}");
            let base = (1u64 << 33) + u64::from(first);
            let at = |xid: u64| shown(&format!("{xid}:{}:{xid}", xid + 1));
            let missing = |xid: u64| xids.missing(EVER, &at(xid));
            assert_eq!(missing(base), Some(Missing::Xid(first)), "{first}: forgotten");
            assert_eq!(missing(base + 1), Some(Missing::Xid(first.wrapping_add(1))), "{first}");
            xids.unknown = Unknown::Any;
            xids.trim(next.wrapping_add(KEPT));
            assert_eq!(xids.missing(EVER, &at(base + (1 << 29))), Some(Missing::Untold));
            xids.unknown_through(next);
            let last = 1 + u64::from(next.wrapping_sub(first));
            assert_eq!(xids.missing(Lsn::ZERO, &shown(&format!("{0}:{0}:", base + last))), None);
        }
    }

    proptest! {
        /// Nothing that came is taken for shown, wherever numbers begin again.
        #[test]
        fn nothing_that_came_and_is_not_shown_passes(
            base in prop_oneof![
                3u64..1 << 34,
                (1u64..4, 0u64..100).prop_map(|(n, near)| (n << 32) - near),
            ],
            came in prop::collection::vec(0u64..60, 1..40),
            xmin in 0u64..60,
            span in 0u64..20,
            running in prop::collection::btree_set(0u64..20, 0..5),
            older in 0usize..40,
        ) {
            let mut xids = Xids::new(false);
            for (place, xid) in came.iter().enumerate() {
                match place < older {
                    true => xids.keep((base + xid) as u32),
                    false => xids.note(Lsn::new(place as u64 + 1), (base + xid) as u32),
                }
            }
            let (xmin, xmax) = (base + xmin, base + xmin + span);
            let running = running.into_iter().map(|xid| xmin + xid).filter(|xid| *xid < xmax);
            let snapshot = PgSnapshot::new(xmin, xmax, running.collect::<Vec<_>>()).unwrap();
            let is_hidden = |xid: u64| xid >= xmax || snapshot.running().contains(&xid);
            let is_missing = came.iter().any(|xid| is_hidden(base + xid));
            prop_assert_eq!(xids.missing(EVER, &snapshot).is_some(), is_missing);
        }
    }
}
