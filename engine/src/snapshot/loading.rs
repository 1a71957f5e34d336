//! Loading: a snapshot that is being written. Rows flow in, chunks flow out to files. Each is
//! written under another name, synced and renamed; the names are synced before the last one is
//! renamed and after. So it is complete if its last chunk has its name, and absent if not.

use super::chunk::{ChunkId, put_value, text_of, to_bytes};
use super::files::{NEW, name};
use super::{PgSnapshot, Snapshot};
use crate::log::Storage;
use crate::words::{Handle, Lsn, Relation, Value};
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// A chunk is written when its values pass this, or it has so many rows: what a reader holds of it
/// at least.
#[cfg(not(test))]
pub(super) const CHUNK_BYTES: usize = 1 << 20;
#[cfg(test)]
pub(super) const CHUNK_BYTES: usize = 64;
pub(super) const CHUNK_ROWS: u32 = 65_536;
/// One row's values: what one value of Postgres's can have, and what the numbers of a chunk hold.
const ROW_BYTES_MAX: usize = 1 << 30;

/// Why a row or a chunk was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadFailure {
    #[error("a row has {found} values, but {table} has {expected} columns")]
    ColumnCount { table: String, expected: usize, found: usize },
    #[error("a row of {table} leaves out the value of column {column}")]
    LeftOut { table: String, column: usize },
    #[error("a row of {table} passes 1 GiB")]
    RowTooLarge { table: String },
    #[error("{file}: {what} failed: {source}")]
    Disk { file: String, what: &'static str, source: io::Error },
}

impl LoadFailure {
    /// Whether a row was refused, and all is as it was before it.
    pub(crate) fn is_of_row(&self) -> bool {
        !matches!(self, LoadFailure::Disk { .. })
    }

    /// Whether there is no room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        let LoadFailure::Disk { source, .. } = self else { return false };
        matches!(
            source.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        )
    }
}

/// See the file's head.
pub(crate) struct Loading {
    folder: Arc<dyn Storage>,
    seed: u32,
    id: ChunkId,
    relation: Arc<Relation>,
    shown: Arc<PgSnapshot>,
    taken_at: Lsn,
    rows: u64,
    bytes: u64,
    /// The chunk that is being filled.
    filling: Vec<u8>,
    filling_rows: u32,
}

impl Loading {
    pub(super) fn new(
        folder: Arc<dyn Storage>,
        seed: u32,
        (handle, attempt): (Handle, u64),
        relation: Arc<Relation>,
        (shown, taken_at): (Arc<PgSnapshot>, Lsn),
    ) -> Loading {
        let id = ChunkId { handle, attempt, number: 0 };
        let (rows, bytes, filling, filling_rows) = Default::default();
        Loading { folder, seed, id, relation, shown, taken_at, rows, bytes, filling, filling_rows }
    }

    /// Takes a row. True: the chunk is full, and to be written before the next one.
    pub(crate) fn push<'v>(
        &mut self,
        row: impl IntoIterator<Item = Value<'v>>,
    ) -> Result<bool, LoadFailure> {
        let before = self.filling.len();
        let taken = self.put_row(row);
        if taken.is_err() {
            self.filling.truncate(before);
        }
        self.bytes += taken?;
        self.rows += 1;
        self.filling_rows += 1;
        Ok(self.filling.len() >= CHUNK_BYTES || self.filling_rows >= CHUNK_ROWS)
    }

    /// Appends a row's values: their bytes.
    fn put_row<'v>(
        &mut self,
        row: impl IntoIterator<Item = Value<'v>>,
    ) -> Result<u64, LoadFailure> {
        let table = || self.relation.table.to_string();
        let expected = self.relation.columns.len();
        let (mut found, mut bytes) = (0, 0);
        for value in row {
            let text = text_of(value)
                .map_err(|()| LoadFailure::LeftOut { table: table(), column: found })?;
            bytes += text.map_or(0, <[u8]>::len);
            if bytes > ROW_BYTES_MAX {
                return Err(LoadFailure::RowTooLarge { table: table() });
            }
            found += 1;
            if found <= expected {
                put_value(&mut self.filling, text);
            }
        }
        match found == expected {
            true => Ok(bytes as u64),
            false => Err(LoadFailure::ColumnCount { table: table(), expected, found }),
        }
    }

    /// Writes the chunk that is full. After an error nothing more may be asked but
    /// [`Loading::abandon`].
    pub(crate) fn write(&mut self) -> Result<(), LoadFailure> {
        let bytes = to_bytes(self.id, self.seed, (self.filling_rows, &self.filling), None);
        self.place(&bytes, false)?;
        self.filling.clear();
        self.filling_rows = 0;
        self.id.number = self.id.number.checked_add(1).ok_or_else(|| {
            let source = io::Error::other("it has 2^32 of them");
            self.failure("beginning another chunk", source)
        })?;
        Ok(())
    }

    /// Writes the last chunk: then the snapshot is complete, durably. After an error nothing more
    /// may be asked but [`Loading::abandon`].
    pub(crate) fn finish(&mut self) -> Result<Snapshot, LoadFailure> {
        let ChunkId { attempt, number, .. } = self.id;
        let snapshot = Snapshot {
            shown: Arc::clone(&self.shown),
            taken_at: self.taken_at,
            rows: self.rows,
            bytes: self.bytes,
            attempt,
            chunks: number + 1,
        };
        let values = (self.filling_rows, &self.filling[..]);
        let bytes = to_bytes(self.id, self.seed, values, Some(&snapshot));
        self.place(&bytes, true)?;
        Ok(snapshot)
    }

    /// Writes a file in the order that a power cut demands.
    fn place(&self, bytes: &[u8], last: bool) -> Result<(), LoadFailure> {
        let name = name(self.id, last);
        let new = format!("{name}{NEW}");
        let folder = &self.folder;
        let failed = |what| move |source| self.failure(what, source);
        let mut file = folder.create(&new).map_err(failed("creating a file"))?;
        file.append(bytes).map_err(failed("writing"))?;
        file.sync().map_err(failed("sync"))?;
        if last {
            // The ones before must be there when this one is.
            folder.sync().map_err(failed("syncing the folder"))?;
        }
        folder.rename(&new, &name).map_err(failed("renaming"))?;
        if last {
            folder.sync().map_err(failed("syncing the folder"))?;
        }
        Ok(())
    }

    fn failure(&self, what: &'static str, source: io::Error) -> LoadFailure {
        let file = self.folder.path_of(&name(self.id, false));
        LoadFailure::Disk { file, what, source }
    }

    /// Deletes what was written, as far as the disk lets us; the rest goes at the next start.
    pub(crate) fn abandon(&self) {
        remove_all(&*self.folder, self.id, self.id.number);
    }
}

/// Deletes an attempt's files with numbers through `last`, that which says that it is complete
/// first.
pub(super) fn remove_all(folder: &dyn Storage, id: ChunkId, last: u32) {
    let ends = ChunkId { number: last, ..id };
    let firsts = [name(ends, true), name(ends, false)];
    let new = firsts.clone().map(|name| format!("{name}{NEW}"));
    let rest = (0..last).map(|number| name(ChunkId { number, ..id }, false));
    for name in firsts.into_iter().chain(new).chain(rest) {
        // One that is not there is as good as deleted.
        let _ = folder.remove(&name);
    }
}
