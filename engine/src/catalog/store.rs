//! Store: the catalog's file, kept by redb. It is made under another name and renamed when it is
//! whole; one that is damaged is set aside, not deleted, and another one takes its place.

use super::aside::Aside;
use super::{CatalogError, Change, Held, entry};
use crate::log::Storage;
use crate::words::Handle;
use redb::{
    Builder, Database, Error, ReadOnlyDatabase, ReadableDatabase, ReadableTable, TableDefinition,
};
use std::fmt;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const NAME: &str = "catalog.redb";
const NEW: &str = "catalog.redb.new";
const DAMAGED: &str = "catalog.redb.damaged";

const VERSION: u128 = 1;
/// Pages that redb keeps in memory. It is written by shapes that come and go, and read once.
const CACHE_BYTES: usize = 4 << 20;

/// By handle: see [`super::Entry`].
const SHAPES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("shapes");
/// The rows below.
const ABOUT: TableDefinition<'_, &str, u128> = TableDefinition::new("about");
const ABOUT_VERSION: &str = "version";
const ABOUT_DIRECTORY: &str = "directory";
const ABOUT_SHARDS: &str = "shards";
/// No handle from this one on was given out.
const ABOUT_NEXT: &str = "next handle";

/// Whose catalog it is: a directory's id, and its number of shards.
type Of = (u128, u32);

/// See the file's head.
pub(super) struct Store {
    file: String,
    database: Database,
}

/// Why a file that is there was not opened.
enum Trouble {
    /// It is not what was written.
    Damaged(String),
    Final(CatalogError),
}

/// Opens the catalog in `folder`, or makes one, and gives what it holds.
pub(super) fn opened(folder: &dyn Storage, of: Of) -> Result<(Store, Held), CatalogError> {
    let file = folder.path_of(NAME);
    let done = |what, done: io::Result<()>| {
        done.map_err(|source| CatalogError::disk(&file, what, source.into()))
    };
    let names = folder.names();
    let names = names.map_err(|source| CatalogError::disk(&file, "listing", source.into()))?;
    let is_there = |name: &str| names.iter().any(|found| found == name);
    if is_there(NAME) {
        match open(folder, &file, of) {
            Ok(opened) => return Ok(opened),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Damaged(reason)) => {
                // Refusing it would make of a copy what everything depends on.
                tracing::warn!(
                    file,
                    reason,
                    "the catalog is damaged: it is made anew from the logs"
                );
                if is_there(DAMAGED) {
                    done("removing an older damaged one", folder.remove(DAMAGED))?;
                }
                done("setting it aside", folder.rename(NAME, DAMAGED))?;
            }
        }
    }
    if is_there(NEW) {
        done("removing one that was left half-made", folder.remove(NEW))?;
    }
    let store = made(&file, &folder.path_of(NEW), of)?;
    done("renaming", folder.rename(NEW, NAME))?;
    done("syncing its folder", folder.sync())?;
    Ok((store, Held::default()))
}

/// Opens the file, and reads all of it.
fn open(folder: &dyn Storage, file: &str, of: Of) -> Result<(Store, Held), Trouble> {
    // redb writes into what it opens, and another's file is to stay as it is.
    check(file, of, seen(folder, file)?)?;
    understood(file, || {
        let store = Store { file: file.to_owned(), database: builder().open(file)? };
        let held = store.held()?;
        Ok((store, held))
    })
}

/// Whose it says that it is. Nothing is written to the file.
fn seen(folder: &dyn Storage, file: &str) -> Result<[u128; 3], Trouble> {
    let looked = catch_unwind(|| about(&ReadOnlyDatabase::open(file)?));
    if let Ok(Ok(found)) = looked {
        return Ok(found);
    }
    // One that was not closed in good order has to be mended before that.
    understood(file, || {
        let file = folder.open(NAME)?;
        about(&builder().create_with_backend(Aside::new(file.reader(), file.len()))?)
    })
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // Without it redb trusts pages that a disk has spoiled.
    builder.set_check_integrity_on_open(true);
    builder
}

/// What `read` gives, or what is wrong with the file.
fn understood<T>(file: &str, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Trouble> {
    let read = catch_unwind(AssertUnwindSafe(read));
    let read = read.unwrap_or_else(|_| Err(Error::Corrupted("redb has panicked".to_owned())));
    read.map_err(|error| match error {
        Error::Corrupted(reason) => Trouble::Damaged(reason),
        Error::TableDoesNotExist(_)
        | Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. }
        | Error::TableIsMultimap(_) => Trouble::Damaged(error.to_string()),
        Error::Io(error)
            if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            Trouble::Damaged(error.to_string())
        }
        error => Trouble::Final(CatalogError::disk(file, "opening", error)),
    })
}

/// Version, directory, shards.
fn about(database: &impl ReadableDatabase) -> Result<[u128; 3], Error> {
    let about = database.begin_read()?.open_table(ABOUT)?;
    let missing = |name: &str| Error::Corrupted(format!("it does not say its {name}"));
    let row = |name| about.get(name)?.map(|row| row.value()).ok_or_else(|| missing(name));
    Ok([row(ABOUT_VERSION)?, row(ABOUT_DIRECTORY)?, row(ABOUT_SHARDS)?])
}

/// Whether a catalog is of this version, and of this directory.
fn check(file: &str, of: Of, [version, directory, shards]: [u128; 3]) -> Result<(), Trouble> {
    let file = file.to_owned();
    if version != VERSION {
        let expected = VERSION;
        return Err(Trouble::Final(CatalogError::Version { file, found: version, expected }));
    }
    if (directory, shards) != (of.0, of.1.into()) {
        return Err(Trouble::Final(CatalogError::Foreign { file }));
    }
    Ok(())
}

/// Makes an empty one at `new`, to be renamed to `file`.
fn made(file: &str, new: &str, (directory, shards): Of) -> Result<Store, CatalogError> {
    let make = || {
        let database = Builder::new().set_cache_size(CACHE_BYTES).create(new)?;
        let transaction = database.begin_write()?;
        {
            let mut about = transaction.open_table(ABOUT)?;
            about.insert(ABOUT_VERSION, VERSION)?;
            about.insert(ABOUT_DIRECTORY, directory)?;
            about.insert(ABOUT_SHARDS, u128::from(shards))?;
            about.insert(ABOUT_NEXT, 0)?;
            transaction.open_table(SHAPES)?;
        }
        transaction.commit()?;
        Ok(database)
    };
    let database = make().map_err(|error| CatalogError::disk(new, "making it", error))?;
    Ok(Store { file: file.to_owned(), database })
}

impl Store {
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn held(&self) -> Result<Held, Error> {
        let transaction = self.database.begin_read()?;
        let next = transaction.open_table(ABOUT)?.get(ABOUT_NEXT)?.map(|next| next.value());
        let next_handle = next.unwrap_or_default() as u64;
        let mut held = Held { next_handle, ..Held::default() };
        for row in transaction.open_table(SHAPES)?.iter()? {
            let (handle, bytes) = row?;
            let (handle, bytes) = (handle.value(), bytes.value());
            let read = entry::read(bytes);
            let snapshot = read.map_err(|reason| Error::Corrupted(reason.to_string()))?;
            held.snapshots.extend(snapshot.map(|snapshot| (handle, Arc::new(snapshot))));
            held.shapes.insert(handle, bytes.into());
        }
        Ok(held)
    }

    /// Makes changes in one transaction, durable when it returns.
    pub(super) fn commit(
        &self,
        changes: &[Change],
        next_handle: Handle,
    ) -> Result<(), CatalogError> {
        let commit = || {
            let transaction = self.database.begin_write()?;
            {
                let mut about = transaction.open_table(ABOUT)?;
                let known = about.get(ABOUT_NEXT)?.map_or(0, |next| next.value());
                let next = u128::from(next_handle.as_u64());
                if next > known {
                    about.insert(ABOUT_NEXT, next)?;
                }
                let mut shapes = transaction.open_table(SHAPES)?;
                for change in changes {
                    match change {
                        Change::Put(handle, entry) => {
                            shapes.insert(handle.as_u64(), entry.as_slice())?;
                        }
                        Change::Take(handle) => {
                            shapes.remove(handle.as_u64())?;
                        }
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        };
        commit().map_err(|error| CatalogError::disk(&self.file, "a commit", error))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("file", &self.file).finish_non_exhaustive()
    }
}
