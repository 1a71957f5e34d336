//! Again: what was thinned is thinned with what comes next.

use super::*;

/// A batch may be larger than a block, so that the thinned file has more of them than there were.
#[test]
fn its_batches_are_numbered_by_themselves() {
    let mut kept = Kept::new(all(u64::MAX));
    kept.world.log.claims().set_living((0..1).collect());
    for round in 0..4 {
        // The second shape does not live.
        for n in 0..60 {
            kept.world.log_row(10 * (100 * round + n + 1), &[n as u32 % 2]);
        }
        kept.world.deliver(10 * (100 * round + 61), &[1]);
        kept.world.log.claims().keep_above(Lsn::new(10 * (100 * round + 61)));
        let freed = kept.thin().unwrap();
        assert!(round == 0 || freed > 0, "in round {round}");
        let (found, _) = open(&kept.disk, kept.retention);
        assert_eq!(found.last_commit, Lsn::new(10 * (100 * round + 61)));
    }
}
