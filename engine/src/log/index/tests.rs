//! Through where blocks can be read, and what trimming forgets.

use super::*;
use std::iter;
use std::ops::Range;

fn commits(lsn: u64) -> Summary {
    let commits = Some((Lsn::new(lsn), Lsn::new(lsn)));
    Summary { commits, through: Lsn::new(lsn), ..Summary::default() }
}

fn opens(lsn: u64, op: u64) -> Summary {
    Summary { open: Some(Offset::new(Lsn::new(lsn), op)), ..Summary::default() }
}

fn block_after(index: &Index, lsn: u64, op: u64) -> Option<u64> {
    match index.place(Offset::new(Lsn::new(lsn), op)) {
        Some(Place::Block(view)) => Some(view.number),
        Some(Place::Sealed(_)) => panic!("nothing was sealed"),
        None => None,
    }
}

#[test]
fn a_transaction_over_blocks_becomes_readable_in_all_of_them_at_its_commit() {
    let mut index = Index::default();
    index.publish(0, 10, true, &commits(5));
    index.publish(10, 10, false, &opens(9, 6));
    index.publish(20, 10, true, &Summary::default());
    index.publish(30, 10, true, &opens(9, 20));
    assert_eq!(block_after(&index, 5, u64::MAX), None);
    index.publish(40, 10, true, &commits(9));
    assert_eq!(block_after(&index, 5, u64::MAX), Some(0));
    assert_eq!(block_after(&index, 9, 5), Some(0));
    assert_eq!(block_after(&index, 9, 6), Some(2));
    assert_eq!(block_after(&index, 9, 20), Some(3));
    assert_eq!(block_after(&index, 9, u64::MAX), None);
}

#[test]
fn trimming_keeps_the_last_block_and_the_open_transaction() {
    let mut index = Index::default();
    index.publish(0, 10, true, &commits(5));
    index.publish(10, 10, true, &commits(6));
    index.publish(20, 10, false, &opens(9, 6));
    index.publish(30, 10, true, &opens(9, 8));
    assert_eq!(index.trim(Lsn::new(8)), Some((1, 10)));
    assert_eq!((index.start(), index.bytes()), (Offset::commit_mark(Lsn::new(5)), 30));
    index.publish(40, 10, false, &commits(9));
    assert_eq!(index.trim(Lsn::new(8)), Some((1, 10)));
    assert_eq!(index.trim(Lsn::new(9)), Some((2, 30)));
    assert_eq!(index.bytes(), 20);
}

#[test]
fn trimming_forgets_what_was_void_in_dropped_blocks_only() {
    let mut index = Index::default();
    let void = |from, lsn| Summary { void: iter::once(from..from + 5).collect(), ..commits(lsn) };
    index.publish(0, 10, true, &void(0, 5));
    index.publish(10, 10, true, &void(12, 6));
    index.publish(20, 10, true, &void(25, 7));
    index.trim(Lsn::new(4));
    assert_eq!(*index.limit.void, [0..5, 12..17, 25..30]);
    index.trim(Lsn::new(5));
    assert_eq!(*index.limit.void, [12..17, 25..30]);
    index.trim(Lsn::new(9));
    assert_eq!(*index.limit.void, [Range { start: 25, end: 30 }]);
}
