//! Delivery: one change as one shape sees it, and the context in which a handler answers.

use super::mailbox::Mailbox;
use crate::words::{
    ColumnValue, Form, Formed, Fragment, Handle, Lsn, Offset, Operation, Relation, RowRef,
};
use std::sync::Arc;
use std::time::Duration;

/// What is handed over, the same for all who get it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    pub(crate) fragment: &'a Fragment,
    /// The change's index in the fragment, and as what the shape sees it.
    pub(crate) change: Option<(u32, Form)>,
    /// Whether its commit comes with it.
    pub(crate) commits: bool,
    pub(crate) offset: Offset,
}

impl<'a> Given<'a> {
    pub(crate) fn new(
        fragment: &'a Fragment,
        change: Option<(u32, Form)>,
        commits: bool,
    ) -> Given<'a> {
        let change_at = change.and_then(|(index, _)| fragment.get(index as usize));
        let mark = Offset::commit_mark(fragment.commit_lsn());
        let offset = change_at.map_or(mark, |change| change.offset());
        Given { fragment, change, commits, offset }
    }
}

/// One change handed to one shape, or the commit mark of a transaction that touched it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub(super) mailbox: &'a Mailbox,
    pub(super) given: &'a Given<'a>,
}

impl<'a> Delivery<'a> {
    /// The shape.
    pub fn handle(&self) -> Handle {
        self.mailbox.name().handle
    }

    /// The position: of the change, or of the commit mark where there is no change.
    pub fn offset(&self) -> Offset {
        self.given.offset
    }

    /// What the shape sees: an update that enters it is an insert, one that leaves it a delete.
    /// `None` for a commit mark that carries no change.
    pub fn operation(&self) -> Option<Operation> {
        self.formed().map(|formed| formed.operation())
    }

    /// The row before, where the shape knew it.
    pub fn old_row(&self) -> Option<RowRef<'a>> {
        self.formed()?.old_row()
    }

    /// The row after, where the shape keeps it.
    pub fn new_row(&self) -> Option<RowRef<'a>> {
        self.formed()?.new_row()
    }

    /// What of the change the shape's definition asks for: the selected columns, as far as its
    /// replica mode tells of them. The rows themselves are whole.
    pub fn selected(&self) -> impl Iterator<Item = ColumnValue<'a>> + use<'a> {
        let view = self.mailbox.view();
        self.formed().into_iter().flat_map(|formed| formed.told(view))
    }

    /// The change's relation.
    pub fn relation(&self) -> Option<&'a Arc<Relation>> {
        self.formed().map(|formed| formed.change().relation())
    }

    /// The transaction's commit LSN.
    pub fn commit_lsn(&self) -> Lsn {
        self.given.fragment.commit_lsn()
    }

    /// The commit LSN, if this is the last that the shape sees of its transaction. What can be
    /// reported as flushed is a commit.
    pub fn commit(&self) -> Option<Lsn> {
        self.given.commits.then(|| self.given.fragment.commit_lsn())
    }

    fn formed(&self) -> Option<Formed<'a>> {
        Formed::new(self.given.fragment, self.given.change?)
    }
}

/// A report that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The commit was not handed to this incarnation yet.
    #[error(
        "shape {handle} reported {reported} as flushed, but was handed commits only through \
         {handed}: report what the handler has seen"
    )]
    PastHanded {
        /// The shape.
        handle: Handle,
        /// What was reported.
        reported: Lsn,
        /// The last commit handed to the consumer.
        handed: Lsn,
    },
}

impl ReportError {
    pub(super) fn past(mailbox: &Mailbox, reported: Lsn, handed: Lsn) -> ReportError {
        ReportError::PastHanded { handle: mailbox.name().handle, reported, handed }
    }
}

/// How a handler answers.
#[derive(Debug)]
pub struct Context<'a> {
    mailbox: &'a Mailbox,
    /// The last commit that was handed over, this one included.
    handed: Lsn,
    /// Lies with the thread that runs the handler, so that a panic does not take it along.
    reported: &'a mut Lsn,
    exit: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(mailbox: &'a Mailbox, handed: Lsn, reported: &'a mut Lsn) -> Context<'a> {
        Context { mailbox, handed, reported, exit: false }
    }

    /// Reports that everything through the commit at `lsn` is flushed. Reports are cumulative.
    pub fn flushed(&mut self, lsn: Lsn) -> Result<(), ReportError> {
        if lsn > self.handed {
            return Err(ReportError::past(self.mailbox, lsn, self.handed));
        }
        *self.reported = lsn.max(*self.reported);
        Ok(())
    }

    /// Asks for the end of this incarnation after this delivery. The next one starts at once.
    pub fn exit(&mut self) {
        self.exit = true;
    }

    /// Says that the consumer is alive and needs up to `lease` more before it reports. Leases are
    /// renewed by asking again, up to the engine's maximum.
    pub fn defer(&mut self, lease: Duration) {
        self.mailbox.extend_lease(lease);
    }

    /// The number of this incarnation.
    pub fn incarnation(&self) -> u64 {
        self.mailbox.name().incarnation
    }

    pub(super) fn exits(&self) -> bool {
        self.exit
    }
}
