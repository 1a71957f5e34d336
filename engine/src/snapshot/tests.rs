//! A snapshot is complete or absent, whenever the disk is cut off or fails; and what is complete is
//! read back as it was given, page by page.

use super::{Door, LoadFailure, PgSnapshot, ReadFailure, Snapshot, SnapshotPosition};
use crate::log::{Contents, Disk, ReadLimits, Storage};
use crate::words::{Column, Handle, Lsn, Relation, TableName, Value, View};
use proptest::prelude::*;
use std::sync::Arc;

const HANDLE: Handle = Handle::new(7);
const SEED: u32 = 99;
const ALL: ReadLimits = ReadLimits { changes_max: usize::MAX, bytes_max: usize::MAX };

type Row = [Option<Vec<u8>>; 2];

fn relation() -> Arc<Relation> {
    let columns = vec![Column::new("id", 20, true), Column::new("note", 25, false)];
    Arc::new(Relation::new(1, TableName::new("public", "items"), columns))
}

fn values(row: &Row) -> impl Iterator<Item = Value<'_>> {
    row.iter().map(|value| value.as_deref().map_or(Value::Null, Value::Text))
}

fn rows(max: usize) -> impl Strategy<Value = Vec<Row>> {
    let value = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec((value(), value()).prop_map(|(id, note)| [id, note]), 0..max)
}

/// A disk with a file that is none of ours.
fn disk() -> Disk {
    Disk::holding(&[("other".to_owned(), b"other".to_vec())].into())
}

/// Writes a snapshot, and gives it up if that fails.
fn load(disk: &Disk, rows: &[Row]) -> Result<Snapshot, LoadFailure> {
    let (door, _) = Door::open(Arc::new(disk.clone()), SEED).unwrap();
    let shown = Arc::new(PgSnapshot::new(10, 20, [10, 14]).unwrap());
    let mut loading = door.begin(HANDLE, relation(), (shown, Lsn::new(50))).unwrap();
    let mut write = || {
        for row in rows {
            if loading.push(values(row))? {
                loading.write()?;
            }
        }
        loading.finish()
    };
    let written = write();
    if written.is_err() {
        loading.abandon();
    }
    written
}

/// What is complete on a disk, all its rows; everything else is deleted.
fn found(disk: &Disk) -> Option<(Snapshot, Vec<Row>)> {
    let (door, listing) = Door::open(Arc::new(disk.clone()), SEED).unwrap();
    let snapshot = door.complete(&listing, HANDLE).unwrap();
    let attempt = snapshot.as_ref().map(|snapshot| snapshot.attempt);
    door.clear_up(listing, |handle| attempt.filter(|_| handle == HANDLE));
    let files = snapshot.as_ref().map_or(0, |snapshot| snapshot.chunks as usize);
    assert_eq!(disk.contents().len(), 1 + files, "{:?}", disk.contents().keys());
    let snapshot = snapshot?;
    let rows = read(&door, &snapshot, ALL);
    assert_eq!(snapshot.rows as usize, rows.len());
    Some((snapshot, rows))
}

/// All rows, in pages.
fn read(door: &Door, snapshot: &Snapshot, limits: ReadLimits) -> Vec<Row> {
    let (relation, view) = (relation(), View::default());
    let (mut rows, mut from) = (Vec::new(), SnapshotPosition::START);
    loop {
        let page = door.read((HANDLE, snapshot), (&relation, &view), from, limits).unwrap();
        assert!(page.rows.len() <= limits.changes_max.max(1));
        assert!(page.is_last || (!page.rows.is_empty() && page.next > from));
        rows.extend(page.rows.iter().map(|row| {
            let row = row.row();
            [0, 1].map(|column| match row.get(column) {
                Some(Value::Text(text)) => Some(text.to_vec()),
                _ => None,
            })
        }));
        from = page.next;
        if page.is_last {
            return rows;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_of_any_size_have_all_rows_once_and_in_order(
        rows in rows(40), changes_max in 0usize..9, bytes_max in 0usize..200,
    ) {
        let disk = disk();
        let snapshot = load(&disk, &rows).unwrap();
        prop_assert_eq!(found(&disk), Some((snapshot.clone(), rows.clone())));
        let (door, _) = Door::open(Arc::new(disk), SEED).unwrap();
        prop_assert_eq!(read(&door, &snapshot, ReadLimits { changes_max, bytes_max }), rows);
    }

    /// The second attempt comes after one that was given up, and another one that is complete and
    /// that nobody was told of.
    #[test]
    fn a_snapshot_is_complete_or_absent_after_a_power_cut_at_any_moment(
        rows in rows(12), others in rows(12), masks: [u64; 3], every in 1usize..40,
    ) {
        let disk = disk();
        let first = load(&disk, &others).unwrap();
        let complete = disk.events();
        let second = load(&disk, &rows).unwrap();
        for events in 0..=disk.events() {
            for contents in disk.cut(events, &masks, every) {
                let found = found(&Disk::holding(&contents));
                match &found {
                    None => prop_assert!(events < complete, "it was complete at {}", complete),
                    Some((snapshot, read)) if *snapshot == first => {
                        prop_assert!(*read == others && events < disk.events());
                    }
                    Some((snapshot, read)) => prop_assert!(*snapshot == second && *read == rows),
                }
            }
        }
    }

    #[test]
    fn a_disk_that_fails_at_any_operation_leaves_nothing_half_there(
        rows in rows(12), masks: [u64; 2],
    ) {
        for operations in 0.. {
            let disk = disk();
            disk.fail_after(operations);
            let Err(failure) = load(&disk, &rows) else { break };
            prop_assert!(failure.is_full() && !failure.is_of_row(), "{}", failure);
            let mut states: Vec<Contents> = disk.cut(disk.events(), &masks, 1);
            states.push(disk.contents());
            for contents in states {
                let read = found(&Disk::holding(&contents));
                prop_assert!(read.is_none_or(|(_, read)| read == rows));
            }
        }
    }

    #[test]
    fn no_byte_of_a_file_can_be_another(
        rows in rows(8), at in any::<prop::sample::Index>(), by in 1u8..,
    ) {
        let disk = disk();
        let snapshot = load(&disk, &rows).unwrap();
        let mut contents = disk.contents();
        let ours: Vec<_> = contents.keys().filter(|name| *name != "other").cloned().collect();
        let name = &ours[at.index(ours.len())];
        let file = contents.get_mut(name).unwrap();
        let at = at.index(file.len());
        file[at] ^= by;
        let (door, _) = Door::open(Arc::new(Disk::holding(&contents)), SEED).unwrap();
        let (relation, view) = (relation(), View::default());
        let all = SnapshotPosition::START;
        let read = door.read((HANDLE, &snapshot), (&relation, &view), all, ALL);
        let Err(ReadFailure::Damaged(damage)) = read else { panic!("{read:?}") };
        prop_assert!(damage.to_string().contains(name.as_str()), "{}", damage);
    }
}

#[test]
fn a_file_under_another_ones_name_or_from_elsewhere_is_damage() {
    let disk = disk();
    let rows: Vec<Row> = (0..9).map(|id| [Some(vec![b'x'; 40]), Some(vec![id])]).collect();
    let snapshot = load(&disk, &rows).unwrap();
    let contents = disk.contents();
    let names: Vec<_> = contents.keys().filter(|name| *name != "other").cloned().collect();
    assert!(names.len() > 3);
    let mut swapped = contents.clone();
    swapped.insert(names[0].clone(), contents[&names[1]].clone());
    let damaged = |contents: &Contents, seed| {
        let (door, listing) = Door::open(Arc::new(Disk::holding(contents)), seed).unwrap();
        let (relation, view) = (relation(), View::default());
        let of = (&relation, &view);
        let read = door.read((HANDLE, &snapshot), of, SnapshotPosition::START, ALL);
        assert!(matches!(read, Err(ReadFailure::Damaged(_))), "{read:?}");
        door.complete(&listing, HANDLE).is_ok()
    };
    assert!(damaged(&swapped, SEED));
    assert!(!damaged(&contents, SEED + 1));
}

#[test]
fn a_row_that_is_refused_leaves_what_was_taken_before() {
    let disk = disk();
    let (door, _) = Door::open(Arc::new(disk.clone()), SEED).unwrap();
    let shown = Arc::new(PgSnapshot::new(10, 20, []).unwrap());
    let taken = (Arc::clone(&shown), Lsn::new(50));
    let mut loading = door.begin(HANDLE, relation(), taken.clone()).unwrap();
    assert!(door.begin(HANDLE, relation(), taken).is_none());
    let (one, two) = (Value::Text(b"1"), Value::Text(b"2"));
    loading.push([one, two]).unwrap();
    let few = loading.push([one]).unwrap_err();
    assert!(matches!(few, LoadFailure::ColumnCount { expected: 2, found: 1, .. }), "{few}");
    let many = loading.push([one, two, one]).unwrap_err();
    assert!(matches!(many, LoadFailure::ColumnCount { expected: 2, found: 3, .. }), "{many}");
    let left_out = loading.push([one, Value::Unchanged]).unwrap_err();
    assert!(matches!(left_out, LoadFailure::LeftOut { column: 1, .. }), "{left_out}");
    assert!(few.is_of_row() && many.is_of_row() && left_out.is_of_row());
    loading.push([two, Value::Null]).unwrap();
    let snapshot = loading.finish().unwrap();
    door.end(HANDLE);
    let text = |text: &[u8]| Some(text.to_vec());
    let expected = vec![[text(b"1"), text(b"2")], [text(b"2"), None]];
    assert_eq!(read(&door, &snapshot, ALL), expected);
    assert_eq!((snapshot.rows(), snapshot.bytes(), snapshot.shown()), (2, 3, &*shown));
    door.remove(HANDLE, &snapshot);
    assert_eq!(disk.names().unwrap(), ["other"]);
}
