//! Continuity: whether what the slot will send joins what the engine has (INV11).

use super::error::PostgresError;
use super::setup::Slot;
use crate::words::Lsn;

/// What the engine knows, and what the server says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Positions {
    /// The highest LSN that the server may have been told (R13).
    pub(super) floor: Lsn,
    /// The engine's flushed LSN.
    pub(super) flushed: Lsn,
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
    /// The server is not the one that the engine's data came from.
    ServerBehind,
}

impl Positions {
    /// Judges them. An engine that was never fed has nothing that could be broken.
    pub(super) fn judge(&self) -> Continuity {
        let Positions { floor, flushed, slot, wal_end } = *self;
        if wal_end < flushed {
            return Continuity::ServerBehind;
        }
        match slot {
            Slot::Found { confirmed } if floor > Lsn::ZERO && confirmed > floor => {
                let cause = format!(
                    "the replication slot stands at {confirmed}, but this engine has acknowledged \
                     nothing beyond {floor}: somebody else moved it"
                );
                Continuity::Broken { cause }
            }
            Slot::Created { at } if floor.max(flushed) > Lsn::ZERO => {
                let cause = format!(
                    "the replication slot was missing; a new one starts at {at}, and what \
                     committed between {} and there is unknown",
                    floor.max(flushed)
                );
                Continuity::Broken { cause }
            }
            Slot::Found { .. } | Slot::Created { .. } => Continuity::Kept,
        }
    }
}

/// Whether the connection leads to the server of this identity that the first one led to.
pub(super) fn same_server(first: &mut Option<String>, now: String) -> Result<(), PostgresError> {
    let before = first.get_or_insert_with(|| now.clone());
    if *before == now {
        return Ok(());
    }
    Err(PostgresError::OtherServer { before: before.clone(), now })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv11_a_connection_that_leads_to_another_server_is_refused_each_time() {
        let mut first = None;
        let mut connect = |to: &str| same_server(&mut first, to.to_owned());
        assert!(connect("one").is_ok() && connect("one").is_ok());
        for _ in 0..2 {
            let refused = connect("other");
            let Err(PostgresError::OtherServer { before, now }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!((&*before, &*now), ("one", "other"));
        }
        assert!(connect("one").is_ok(), "the way to the first one is restored");
    }

    fn judge(floor: u64, flushed: u64, slot: Slot) -> Continuity {
        let (floor, flushed) = (Lsn::new(floor), Lsn::new(flushed));
        Positions { floor, flushed, slot, wal_end: Lsn::new(100) }.judge()
    }

    #[test]
    fn b11_h04_a_slot_beyond_the_floor_or_a_new_one_breaks_continuity() {
        let found = |lsn| Slot::Found { confirmed: Lsn::new(lsn) };
        let created = Slot::Created { at: Lsn::new(60) };
        assert_eq!(judge(50, 40, found(50)), Continuity::Kept, "exactly what was acknowledged");
        assert_eq!(judge(50, 40, found(10)), Continuity::Kept, "replay");
        assert!(matches!(judge(50, 40, found(51)), Continuity::Broken { .. }));
        assert!(matches!(judge(50, 40, created), Continuity::Broken { .. }));
        assert!(matches!(judge(0, 40, created), Continuity::Broken { .. }));
        assert_eq!(judge(0, 0, found(50)), Continuity::Kept, "never fed");
        assert_eq!(judge(0, 0, created), Continuity::Kept, "never fed");
        assert_eq!(judge(50, 101, found(50)), Continuity::ServerBehind);
        assert_eq!(judge(50, 100, found(50)), Continuity::Kept);
    }
}
