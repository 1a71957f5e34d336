//! Continuity: whether what the slot will send joins what the engine has (INV11).

use super::setup::Slot;
use crate::words::{Lsn, ServerId};
use std::num::NonZeroU32;

/// What the engine knows, and what the server says.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    /// The server that the engine's changes came from.
    pub(super) before: Option<ServerId>,
    /// The highest LSN that the server may have been told (R13).
    pub(super) floor: Lsn,
    /// The last commit of which the engine has anything.
    pub(super) last_commit: Lsn,
    pub(super) now: ServerId,
    /// The history of the server's timeline, where that is another one than before.
    pub(super) history: String,
    pub(super) slot: Slot,
    /// The end of the server's WAL.
    pub(super) wal_end: Lsn,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Continuity {
    /// Nothing is missing.
    Kept,
    /// Changes are missing: every shape is invalid.
    Broken {
        /// Why.
        cause: String,
    },
    /// The server is another one: its LSNs say nothing about what the engine has, so that shards
    /// would drop what is new (INV8). It cannot be served on at all.
    OtherServer {
        /// The system identifier of the one that the engine's changes came from.
        before: u64,
    },
    /// The server is the same and does not reach as far: shards would drop what is new, too.
    ServerBehind {
        /// As far as it must reach.
        reached: Lsn,
    },
}

impl Positions {
    /// Judges them. An engine that was never fed has nothing that could be broken.
    pub(super) fn judge(&self) -> Continuity {
        if let Some(before) = self.before.filter(|before| before.system != self.now.system) {
            return Continuity::OtherServer { before: before.system };
        }
        let reached = self.floor.max(self.last_commit);
        if self.wal_end < reached {
            return Continuity::ServerBehind { reached };
        }
        match self.forked().or_else(|| self.moved()) {
            Some(cause) => Continuity::Broken { cause },
            None => Continuity::Kept,
        }
    }

    /// Whether the engine has more of an earlier timeline than the server's has taken over.
    fn forked(&self) -> Option<String> {
        let Positions { before, now, floor, last_commit, .. } = self;
        let before = before.as_ref().filter(|before| before.timeline != now.timeline)?;
        let (old, new) = (before.timeline, now.timeline);
        let Some(end) = end_of(old, &self.history) else {
            let cause = format!(
                "the server is on timeline {new}, which does not descend from timeline {old}, \
                 where this engine's changes come from"
            );
            return Some(cause);
        };
        // A commit's LSN is where its record begins, and the floor is where one ends.
        (*last_commit >= end || *floor > end).then(|| {
            format!(
                "the server is on timeline {new}, which left timeline {old} at {end}, but this \
                 engine has followed that to {}",
                floor.max(last_commit)
            )
        })
    }

    /// Whether the slot is not where it was left.
    fn moved(&self) -> Option<String> {
        let (floor, reached) = (self.floor, self.floor.max(self.last_commit));
        match self.slot {
            Slot::Found { confirmed } if floor > Lsn::ZERO && confirmed > floor => Some(format!(
                "the replication slot stands at {confirmed}, but this engine has acknowledged \
                 nothing beyond {floor}: somebody else moved it"
            )),
            Slot::Created { at } if reached > Lsn::ZERO => Some(format!(
                "the replication slot was missing; a new one starts at {at}, and what committed \
                 between {reached} and there is unknown"
            )),
            Slot::Found { .. } | Slot::Created { .. } => None,
        }
    }
}

/// Where `timeline` ended for a server with this history, whose lines are a timeline, the LSN at
/// which the next one began, and the reason; `None` if it is none of its ancestors.
fn end_of(timeline: NonZeroU32, history: &str) -> Option<Lsn> {
    history.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.next()?.parse() == Ok(timeline);
        is_it.then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(system: u64, timeline: u32) -> ServerId {
        ServerId { system, timeline: NonZeroU32::new(timeline).unwrap() }
    }

    fn positions(floor: u64, last_commit: u64, slot: Slot) -> Positions {
        Positions {
            before: Some(server(7, 1)),
            floor: Lsn::new(floor),
            last_commit: Lsn::new(last_commit),
            now: server(7, 1),
            history: String::new(),
            slot,
            wal_end: Lsn::new(100),
        }
    }

    fn found(confirmed: u64) -> Slot {
        Slot::Found { confirmed: Lsn::new(confirmed) }
    }

    const CREATED: Slot = Slot::Created { at: Lsn::new(60) };

    #[test]
    fn inv11_another_server_is_refused_wherever_its_slot_stands() {
        for slot in [found(10), found(51), CREATED] {
            let mut other = positions(50, 40, slot);
            other.now = server(8, 1);
            assert_eq!(other.judge(), Continuity::OtherServer { before: 7 });
            other.before = None;
            other.floor = Lsn::ZERO;
            other.last_commit = Lsn::ZERO;
            assert_eq!(other.judge(), Continuity::Kept, "the first one, of an empty engine");
        }
    }

    #[test]
    fn b11_h04_a_slot_beyond_the_floor_or_a_new_one_breaks_continuity() {
        let judge = |floor, last_commit, slot| positions(floor, last_commit, slot).judge();
        assert_eq!(judge(50, 40, found(50)), Continuity::Kept, "exactly what was acknowledged");
        assert_eq!(judge(50, 40, found(10)), Continuity::Kept, "replay");
        assert!(matches!(judge(50, 40, found(51)), Continuity::Broken { .. }));
        assert!(matches!(judge(50, 40, CREATED), Continuity::Broken { .. }));
        assert!(matches!(judge(0, 40, CREATED), Continuity::Broken { .. }));
        assert_eq!(judge(0, 0, found(50)), Continuity::Kept, "never fed");
        assert_eq!(judge(0, 0, CREATED), Continuity::Kept, "never fed");
        let behind = Continuity::ServerBehind { reached: Lsn::new(101) };
        assert_eq!(judge(50, 101, found(50)), behind);
        assert_eq!(judge(101, 50, found(50)), behind);
        assert_eq!(judge(50, 100, found(50)), Continuity::Kept);
    }

    #[test]
    fn inv11_h04_another_timeline_is_followed_if_it_left_after_what_is_here() {
        let history = "1\t0/20\tno recovery target specified\n\n3\t0/40\tsome reason\n";
        let judge = |before, floor, last_commit| {
            let mut positions = positions(floor, last_commit, found(10));
            (positions.before, positions.now) = (Some(server(7, before)), server(7, 4));
            positions.history = history.into();
            positions.judge()
        };
        assert_eq!(judge(1, 0x20, 0x1f), Continuity::Kept);
        assert!(matches!(judge(1, 0x20, 0x20), Continuity::Broken { .. }));
        assert!(matches!(judge(1, 0x21, 0x1f), Continuity::Broken { .. }));
        assert_eq!(judge(3, 0x40, 0x3f), Continuity::Kept);
        assert_eq!(judge(4, 0x60, 0x60), Continuity::Kept, "the same");
        // A sibling, and a descendant whose ancestor serves again.
        for other in [2, 5] {
            assert!(matches!(judge(other, 0, 1), Continuity::Broken { .. }), "{other}");
        }
    }
}
