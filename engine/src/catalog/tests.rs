//! What a catalog holds survives, and one that is missing, damaged, foreign or of another version
//! is told apart.

use super::store::opened;
use super::{Catalog, CatalogError, Change, Entry, Held, Mended};
use crate::log::Directory;
use crate::snapshot::Initial;
use crate::words::{Handle, Lsn, Offset, ShapeDefinition, Slot, TableName};
use proptest::prelude::*;
use redb::{Database, TableDefinition};
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "catalog.redb";

fn definition() -> ShapeDefinition {
    ShapeDefinition::filtered(TableName::new("public", "items"), "kind = 'hot'")
}

fn entry(slot: u32, definition: &ShapeDefinition) -> Entry<'_> {
    let first = Offset::commit_mark(Lsn::new(7));
    let initial = &Initial::None;
    Entry { shard: 1, slot: Slot::new(slot), first, definition, initial }
}

/// The shapes of `slots`, whose handles are ten times as high.
fn shapes(
    slots: impl IntoIterator<Item = u32>,
    definition: &ShapeDefinition,
) -> impl Iterator<Item = (Handle, Entry<'_>)> {
    slots.into_iter().map(|slot| (Handle::new(u64::from(slot) * 10), entry(slot, definition)))
}

fn directory(path: &Path) -> Arc<Directory> {
    Arc::new(Directory::open(path, 2).unwrap())
}

fn handles(held: &Held) -> Vec<u64> {
    held.shapes.keys().copied().collect()
}

#[test]
fn what_is_written_is_held_and_what_the_logs_do_not_say_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (definition(), ShapeDefinition { where_clause: None, ..definition() });
    let (catalog, held) = Catalog::open(&directory(dir.path())).unwrap();
    assert_eq!((handles(&held), held.next_handle()), (vec![], Handle::new(0)));
    let put = |slot| Change::put(Handle::new(u64::from(slot) * 10), &entry(slot, &one));
    catalog.write(vec![put(3), put(1), put(2)], Handle::new(31)).unwrap();
    // What is said last counts, and a lower next handle takes nothing back.
    let changes = vec![Change::Take(Handle::new(20)), put(4), Change::Take(Handle::new(40))];
    catalog.write(changes, Handle::new(5)).unwrap();
    assert_eq!(handles(&catalog.held()), [10, 30]);
    drop(catalog);
    let (catalog, held) = Catalog::open(&directory(dir.path())).unwrap();
    assert_eq!((handles(&held), held.next_handle()), (vec![10, 30], Handle::new(31)));
    // 1 is as it was, 3 is gone, 5 is new.
    let mended = catalog.reconcile(held, shapes([5, 1], &one), Handle::new(51)).unwrap();
    assert_eq!(mended, Mended { put: 1, taken: 1 });
    assert_eq!(handles(&catalog.held()), [10, 50]);
    // The same handles, and another shape.
    let mended = catalog.reconcile(catalog.held(), shapes([1, 5], &other), Handle::new(51));
    assert_eq!(mended.unwrap(), Mended { put: 2, taken: 0 });
    let mended = catalog.reconcile(catalog.held(), shapes([1, 5], &other), Handle::new(51));
    assert_eq!(mended.unwrap(), Mended::default());
}

#[test]
fn callers_at_the_same_time_all_find_what_they_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, _) = Catalog::open(&directory(dir.path())).unwrap();
    let definition = definition();
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (catalog, definition) = (&catalog, &definition);
            scope.spawn(move || {
                for slot in (caller * 10)..(caller * 10 + 10) {
                    let handle = Handle::new(slot.into());
                    let change = Change::put(handle, &entry(slot, definition));
                    catalog.write(vec![change], handle).unwrap();
                    let held = catalog.held();
                    assert!(held.shapes.contains_key(&handle.as_u64()));
                    assert!(held.next_handle() >= handle, "who commits knows of lower ones");
                }
            });
        }
    });
    assert_eq!(handles(&catalog.held()), (0..80).collect::<Vec<_>>());
}

#[test]
fn one_that_was_left_half_made_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    for left in [&b""[..], &[7; 5_000]] {
        std::fs::write(dir.path().join("catalog.redb.new"), left).unwrap();
        drop(std::fs::remove_file(dir.path().join(FILE)));
        let (catalog, held) = Catalog::open(&directory).unwrap();
        assert_eq!(handles(&held), []);
        drop(catalog);
        assert!(!dir.path().join("catalog.redb.new").exists());
        Catalog::open(&directory).unwrap();
    }
}

#[test]
fn another_directory_s_and_another_version_s_are_refused_and_left_alone() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join(FILE);
    drop(Catalog::open(&directory(other.path())).unwrap());
    let mine = directory(dir.path());
    std::fs::copy(other.path().join(FILE), &path).unwrap();
    let refused = Catalog::open(&mine).unwrap_err();
    assert!(matches!(refused, CatalogError::Foreign { .. }), "{refused}");
    let bytes = |of: &Path| std::fs::read(of.join(FILE)).unwrap();
    assert!(bytes(dir.path()) == bytes(other.path()), "it was left as it was");
    std::fs::remove_file(&path).unwrap();
    drop(Catalog::open(&mine).unwrap());
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let about = TableDefinition::<'_, &str, u128>::new("about");
    transaction.open_table(about).unwrap().insert("version", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = Catalog::open(&mine).unwrap_err();
    assert!(matches!(refused, CatalogError::Version { found: 2, expected: 1, .. }), "{refused}");
    // Nothing was made in its place.
    assert!(Catalog::open(&mine).is_err() && !dir.path().join("catalog.redb.damaged").exists());
}

#[test]
fn a_write_that_fails_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let (catalog, _) = Catalog::open(&directory(dir.path())).unwrap();
    catalog.written.lock().failed = true;
    let refused = catalog.write(Vec::new(), Handle::new(0)).unwrap_err();
    assert!(matches!(refused, CatalogError::Failed { .. }), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Where it is spoiled, it says what was written or is set aside and made anew; never anything
    /// else, and nothing of it is deleted.
    #[test]
    fn a_spoiled_file_is_not_believed(
        spoiled in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..40),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(dir.path());
        let folder = directory.folder();
        let of = (directory.id(), directory.shards());
        let definition = definition();
        let (catalog, held) = Catalog::open(&directory).unwrap();
        catalog.reconcile(held, shapes(0..300, &definition), Handle::new(3_000)).unwrap();
        let written = catalog.held();
        drop(catalog);
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, by) in &spoiled {
            let at = at.index(bytes.len());
            bytes[at] ^= by;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        match opened(&*folder, of) {
            Ok((_, held)) => {
                let whole = held.shapes == written.shapes;
                prop_assert!(whole || held.shapes.is_empty());
                let aside = dir.path().join("catalog.redb.damaged");
                prop_assert_eq!(whole, !aside.exists());
                prop_assert!(whole || std::fs::read(aside).unwrap().len() >= bytes.len());
            }
            Err(error) => prop_assert!(
                matches!(error, CatalogError::Foreign { .. } | CatalogError::Version { .. }),
                "{error}"
            ),
        }
    }
}
