//! Read: a shape's log, from an offset, as far as it is committed and durable.

use super::error::ReadError;
use super::{Engine, Inner};
use crate::log::{LogError, Page, ReadLimits, read_shape};
use crate::words::{Handle, Offset};

impl Engine {
    /// What was delivered to a shape after the offset `after`, in order: committed and durable
    /// changes only. Go on from [`Page::through`].
    ///
    /// # Errors
    /// When the shape is gone, its log was cut, or the log cannot be read.
    pub fn read(
        &self,
        handle: Handle,
        after: Offset,
        limits: ReadLimits,
    ) -> Result<Page, ReadError> {
        self.inner.read(handle, after, limits)
    }
}

impl Inner {
    pub(super) fn read(
        &self,
        handle: Handle,
        after: Offset,
        limits: ReadLimits,
    ) -> Result<Page, ReadError> {
        let place = self.control.registry.place(handle);
        let place = place.ok_or(ReadError::Unknown { handle })?;
        if place.initial.is_awaited() {
            return Err(ReadError::SnapshotIncomplete { handle });
        }
        let log = &self.shards[place.shard as usize].log;
        // Nothing at or below its first offset is its own; a log that was cut below is no loss.
        let after = after.max(place.first);
        let page = read_shape(log, place.slot, after, limits).map_err(|error| match error {
            LogError::BelowStart { after, start } => ReadError::BelowStart { after, start },
            error => ReadError::Log { cause: error.to_string() },
        })?;
        let page = page.seen_by(&place.view);
        Ok(match place.initial.complete() {
            Some(snapshot) => page.without(|commit, xid| snapshot.hides(commit, xid)),
            None => page,
        })
    }
}
