//! Read: one shape's log, page by page. A slot and a position flow in, the changes that were
//! delivered to that slot flow out. Which shape has which slot, and what to tell a reader whose
//! position was dropped, is left to the engine.

use super::BLOCK_BYTES_MAX;
use super::cache::BLOCKS_MAX;
use super::decode::{Chunk, Logged};
use super::json::{self, Lines};
use super::shelf::Trail;
use super::store::{Known, Log, LogError};
use crate::words::{
    ColumnValue, Form, Formed, Fragment, Lsn, Offset, Operation, Relation, RowRef, Slot, View,
};
use std::fmt;
use std::sync::Arc;

/// A call that has looked at so much of the log returns, found or not: a quiet shape's reader gets
/// its thread back, and memory that a page keeps alive is bounded even where it holds one small
/// change of each large transaction. Half of the blocks that are kept decoded, so that readers who
/// go through a log in step decode each block once for all of them.
const SCAN_BYTES_MAX: u64 = (BLOCKS_MAX / 2 * BLOCK_BYTES_MAX) as u64;

/// What a block counts of which it is known what it holds, beside what is read of it.
const PASSED_BYTES: u64 = 4 << 10;

/// How large a page of a shape's log may grow. At least one change is always given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// At most this many changes.
    pub changes_max: usize,
    /// At most this many bytes of values.
    pub bytes_max: usize,
}

impl Default for ReadLimits {
    fn default() -> ReadLimits {
        ReadLimits { changes_max: 10_000, bytes_max: 1 << 20 }
    }
}

/// A piece of a shape's log. It may end inside a large transaction.
#[derive(Clone, Debug)]
pub struct Page {
    /// What was delivered to the shape, in stream order.
    pub changes: Vec<LoggedChange>,
    /// Where to go on. Everything of the shape at or below it is in this page or before it.
    pub through: Offset,
    /// Whether the shape's log held nothing more when it was read. A page that is not up to date
    /// may be empty all the same: the rest of the log is then still to be looked at.
    pub up_to_date: bool,
}

impl Page {
    /// The transaction of its last change, if there is more of that for the shape: a page ends
    /// inside a transaction where its limits are reached there.
    pub fn ends_inside(&self) -> Option<Lsn> {
        let last = self.changes.last()?;
        (!last.is_last()).then(|| last.commit_lsn())
    }

    /// Appends each change as a line of JSON: [`LoggedChange::write_json_line`].
    pub fn write_json_lines(&self, out: &mut Vec<u8>) {
        self.changes.iter().for_each(|change| change.write_json_line(out));
    }
}

/// One change of a shape's log, as the shape sees it.
#[derive(Clone)]
pub struct LoggedChange {
    fragment: Arc<Fragment>,
    /// An index of `fragment`, and the form.
    what: (u32, Form),
    view: View,
    /// What was written as JSON before, by whoever reads this fragment.
    lines: Arc<Lines>,
    last: bool,
}

impl LoggedChange {
    /// The change's position.
    pub fn offset(&self) -> Offset {
        self.formed().change().offset()
    }

    /// What the shape sees: an update that enters it is an insert, one that leaves it a delete.
    pub fn operation(&self) -> Operation {
        self.formed().operation()
    }

    /// The row before, where the shape knew it.
    pub fn old_row(&self) -> Option<RowRef<'_>> {
        self.formed().old_row()
    }

    /// The row after, where the shape keeps it.
    pub fn new_row(&self) -> Option<RowRef<'_>> {
        self.formed().new_row()
    }

    /// What of the change the shape's definition asks for: the selected columns, as far as its
    /// replica mode tells of them. The rows themselves are whole.
    pub fn selected(&self) -> impl Iterator<Item = ColumnValue<'_>> {
        self.formed().told(&self.view)
    }

    /// Whether nothing more of its transaction was delivered to the shape.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Appends the change as a line of JSON, with what the shape's definition asks for:
    ///
    /// ```json
    /// {"key":"\"public\".\"items\"/\"7\"","value":{"id":"7","kind":"hot"},"headers":
    /// {"operation":"insert","offset":"0/1000_0","txids":[733],"last":true}}
    /// ```
    ///
    /// (without the line break in it). Values are Postgres's text form or null; a large value that
    /// an update left as it was and that is not known is left out. In the mode
    /// [`Replica::Full`](crate::Replica) an update has `old_value` too: what it changed, as it was.
    /// `last` is there, and true, on the last change of its transaction in this shape. The key is
    /// the table's name and the values of the primary key, or of all columns where there is none.
    /// Bytes that are no UTF-8 are replaced.
    pub fn write_json_line(&self, out: &mut Vec<u8>) {
        self.lines.write(&self.fragment, self.what, &self.view, out);
        json::write_end(self.last, out);
    }

    /// The change's table, as it was then.
    pub fn relation(&self) -> &Arc<Relation> {
        self.formed().change().relation()
    }

    /// The id of the change's transaction.
    pub fn xid(&self) -> u32 {
        self.fragment.xid()
    }

    /// The commit LSN of the change's transaction.
    pub fn commit_lsn(&self) -> Lsn {
        self.fragment.commit_lsn()
    }

    /// The bytes of its values.
    fn bytes(&self) -> usize {
        let formed = self.formed();
        [formed.old_row(), formed.new_row()].iter().flatten().map(RowRef::bytes).sum()
    }

    fn formed(&self) -> Formed<'_> {
        Formed::new(&self.fragment, self.what).expect("the decoder numbers what it decoded")
    }
}

impl fmt::Debug for LoggedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedChange")
            .field("offset", &self.offset())
            .field("operation", &self.operation())
            .field("relation", &self.relation().table)
            .field("old", &self.old_row())
            .field("new", &self.new_row())
            .finish()
    }
}

/// Reads what `slot` was delivered after `after`, which must not lie below where its log begins.
/// Who goes on at each page's `through` gets each change once, in order, and only of transactions
/// whose commit is durable.
pub(crate) fn read_shape(
    log: &Log,
    slot: Slot,
    after: Offset,
    limits: ReadLimits,
) -> Result<Page, LogError> {
    let is_above_start = || {
        let start = log.start_of(slot);
        if after < start { Err(LogError::BelowStart { after, start }) } else { Ok(()) }
    };
    is_above_start()?;
    let mut page = Page { changes: Vec::new(), through: after, up_to_date: false };
    let mut room = Room { left: limits };
    let (mut scanned, mut trail) = (0, Trail::default());
    while scanned < SCAN_BYTES_MAX || page.is_undecided() {
        if scanned >= SCAN_BYTES_MAX {
            // From here on it only looks whether there is one change more.
            room.left.changes_max = 0;
        }
        // Before looking for more: what is durable by now is then found.
        let durable = Offset::commit_mark(log.durable_commit());
        if let Some(Known { through, chunk }) = log.known(page.through, slot, &mut trail)? {
            scanned += PASSED_BYTES;
            if let Some(chunk) = chunk {
                scanned += chunk.bytes;
                if !page.extend(&chunk, slot, &mut room) {
                    break;
                }
            }
            page.through = through;
            continue;
        }
        let Some(chunk) = log.read(page.through)? else {
            page.through = page.through.max(durable);
            page.up_to_date = true;
            break;
        };
        scanned += chunk.bytes;
        if chunk.touched.contains(slot.as_u32()) && !page.extend(&chunk, slot, &mut room) {
            break;
        }
        page.through = chunk.through;
    }
    // What was dropped meanwhile may be missing.
    is_above_start()?;
    page.mark_last();
    Ok(page)
}

impl Page {
    /// The page as a shape with `view` sees it.
    pub(crate) fn seen_by(mut self, view: &View) -> Page {
        if !view.is_plain() {
            self.changes.iter_mut().for_each(|change| change.view = view.clone());
        }
        self
    }

    /// The page without the transactions that are hidden, by commit and xid.
    pub(crate) fn without(mut self, hides: impl Fn(Lsn, u32) -> bool) -> Page {
        self.changes.retain(|change| !hides(change.commit_lsn(), change.xid()));
        self
    }

    /// Takes what the chunk holds for `slot`. False: there is more than fits.
    fn extend(&mut self, chunk: &Chunk, slot: Slot, room: &mut Room) -> bool {
        let after = self.through;
        for Logged { fragment, routed, lines } in chunk.after(after) {
            for routed in routed.iter() {
                let Some(form) = routed.form_for(slot) else { continue };
                let what = (routed.change, form);
                let (fragment, lines) = (Arc::clone(fragment), Arc::clone(lines));
                let (view, last) = (View::default(), false);
                let change = LoggedChange { fragment, what, view, lines, last };
                let offset = change.offset();
                if offset <= after {
                    continue;
                }
                if !room.take(change.bytes()) && !self.changes.is_empty() {
                    self.pass_whole(change.commit_lsn());
                    return false;
                }
                self.changes.push(change);
                self.through = offset;
            }
        }
        true
    }

    /// The next change is one of the transaction `next`: where that is another than the last one's,
    /// the page has all of that.
    fn pass_whole(&mut self, next: Lsn) {
        if let Some(last) = self.changes.last().filter(|last| last.commit_lsn() != next) {
            self.through = self.through.max(Offset::commit_mark(last.commit_lsn()));
        }
    }

    /// Whether it is not known yet if the page has all of its last change's transaction.
    fn is_undecided(&self) -> bool {
        let whole = |last: &LoggedChange| self.through >= Offset::commit_mark(last.commit_lsn());
        self.changes.last().is_some_and(|last| !whole(last))
    }

    /// Marks the last change of each transaction.
    fn mark_last(&mut self) {
        let mut next = None;
        let undecided = self.is_undecided();
        for change in self.changes.iter_mut().rev() {
            let commit = change.commit_lsn();
            change.last = next != Some(commit) && !(next.is_none() && undecided);
            next = Some(commit);
        }
    }
}

/// What a page may still grow by.
struct Room {
    left: ReadLimits,
}

impl Room {
    /// Takes the room of one change of `bytes` bytes. False: it is not there, nor for any other.
    fn take(&mut self, bytes: usize) -> bool {
        let ReadLimits { changes_max, bytes_max } = &mut self.left;
        let fits = *changes_max > 0 && *bytes_max >= bytes;
        *changes_max = if fits { *changes_max - 1 } else { 0 };
        *bytes_max = bytes_max.saturating_sub(bytes);
        fits
    }
}
