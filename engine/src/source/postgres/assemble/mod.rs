//! Assembler: makes fragments of pgoutput messages.
//!
//! Messages in, in the order in which they were sent; fragments, begins and relations out. It knows
//! the tables: from the catalog, which alone tells the primary key (with REPLICA IDENTITY FULL
//! pgoutput marks every column as key), and from the stream, which tells what each row looks like.

#[cfg(test)]
mod tests;

use super::decode::{Message, OldTuple, RelationMessage, Tuple};
use crate::words::{
    Column, Fragment, FragmentError, FragmentLimits, Lsn, Relation, TableName, TransactionBuilder,
};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Messages that make no fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// A change or a commit came while no transaction was open.
    #[error("pgoutput sent {message} outside a transaction; restart the source")]
    NoTransaction {
        /// What came.
        message: &'static str,
    },
    /// A transaction began inside another one.
    #[error(
        "pgoutput began transaction {xid} while the one that commits at {open} was open; restart \
         the source"
    )]
    NestedBegin {
        /// The transaction that began.
        xid: u32,
        /// The commit LSN of the open one.
        open: Lsn,
    },
    /// A commit names another transaction than the open one.
    #[error("pgoutput committed at {found} the transaction that began with commit LSN {expected}")]
    WrongCommit {
        /// The commit LSN of the open transaction.
        expected: Lsn,
        /// The commit LSN of the commit.
        found: Lsn,
    },
    /// A row's table was not announced.
    #[error("pgoutput sent a row of the table with OID {oid}, which it has not announced")]
    UnknownRelation {
        /// The table's OID.
        oid: u32,
    },
    /// A row changed or went, and what it was before is unknown.
    #[error(
        "table {table} has no REPLICA IDENTITY FULL, so that an update or delete of a row cannot \
         be matched against shapes: run ALTER TABLE {table} REPLICA IDENTITY FULL; the changes \
         that were made before cannot be recovered, so then drop the replication slot, and the \
         source makes a new one and invalidates all shapes"
    )]
    NotFull {
        /// The table, quoted for SQL.
        table: String,
    },
    /// A row does not fit its table.
    #[error(transparent)]
    Row(#[from] FragmentError),
}

/// What the assembler makes of messages.
#[derive(Debug)]
pub(crate) enum Assembled {
    /// How a table looks from here on.
    Relation(Arc<Relation>),
    /// A transaction has begun.
    Begin,
    /// A slice of the open transaction; a committing one ends it.
    Fragment(Arc<Fragment>),
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    limits: FragmentLimits,
    /// Every table that was ever seen, by OID, in its last form.
    known: HashMap<u32, Arc<Relation>>,
    /// The tables announced in this connection, as they look to the rows that follow.
    announced: HashMap<u32, Arc<Relation>>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    builder: TransactionBuilder,
    commit_lsn: Lsn,
}

impl Assembler {
    pub(crate) fn new(limits: FragmentLimits) -> Assembler {
        Assembler { limits, ..Assembler::default() }
    }

    /// A new connection: the server announces every table again, and sends an open transaction
    /// again from its begin.
    pub(crate) fn connected(&mut self) {
        self.announced.clear();
        self.open = None;
    }

    /// Takes a table from the catalog.
    pub(crate) fn learn(&mut self, relation: Arc<Relation>) {
        self.known.insert(relation.oid, relation);
    }

    /// Takes the next message; what it makes is appended to `out`.
    pub(crate) fn take(
        &mut self,
        message: Message<'_>,
        out: &mut VecDeque<Assembled>,
    ) -> Result<(), AssembleError> {
        match message {
            Message::Begin { commit_lsn, xid } => self.begin(commit_lsn, xid, out),
            Message::Commit { commit_lsn, end_lsn } => self.commit(commit_lsn, end_lsn, out),
            Message::Relation(message) => {
                self.relation(&message, out);
                Ok(())
            }
            Message::Origin { .. } | Message::Type { .. } => Ok(()),
            Message::Insert { relation, new } => {
                let (builder, relation) = self.room(relation, "an insert", out)?;
                Ok(builder.insert(&relation, new.values())?)
            }
            Message::Update { relation, old, new } => {
                let (builder, relation) = self.room(relation, "an update", out)?;
                let old = full(old, &relation)?;
                Ok(builder.update(&relation, old.values(), new.values())?)
            }
            Message::Delete { relation, old } => {
                let (builder, relation) = self.room(relation, "a delete", out)?;
                let old = full(Some(old), &relation)?;
                Ok(builder.delete(&relation, old.values())?)
            }
            Message::Truncate { relations } => relations.iter().try_for_each(|oid| {
                let (builder, relation) = self.room(oid, "a truncate", out)?;
                builder.truncate(&relation);
                Ok(())
            }),
        }
    }

    fn begin(
        &mut self,
        commit_lsn: Lsn,
        xid: u32,
        out: &mut VecDeque<Assembled>,
    ) -> Result<(), AssembleError> {
        if let Some(open) = &self.open {
            return Err(AssembleError::NestedBegin { xid, open: open.commit_lsn });
        }
        let builder = TransactionBuilder::new(xid, commit_lsn).with_limits(self.limits);
        self.open = Some(Open { builder, commit_lsn });
        out.push_back(Assembled::Begin);
        Ok(())
    }

    fn commit(
        &mut self,
        commit_lsn: Lsn,
        end_lsn: Lsn,
        out: &mut VecDeque<Assembled>,
    ) -> Result<(), AssembleError> {
        let outside = AssembleError::NoTransaction { message: "a commit" };
        let open = self.open.take().ok_or(outside)?;
        if open.commit_lsn != commit_lsn {
            let expected = open.commit_lsn;
            return Err(AssembleError::WrongCommit { expected, found: commit_lsn });
        }
        out.push_back(Assembled::Fragment(Arc::new(open.builder.commit(end_lsn))));
        Ok(())
    }

    /// The builder, with room for one more change, and the change's table.
    fn room(
        &mut self,
        oid: u32,
        message: &'static str,
        out: &mut VecDeque<Assembled>,
    ) -> Result<(&mut TransactionBuilder, Arc<Relation>), AssembleError> {
        let open = self.open.as_mut().ok_or(AssembleError::NoTransaction { message })?;
        let relation = self.announced.get(&oid).ok_or(AssembleError::UnknownRelation { oid })?;
        if open.builder.is_full() {
            out.push_back(Assembled::Fragment(Arc::new(open.builder.cut())));
        }
        Ok((&mut open.builder, Arc::clone(relation)))
    }

    /// A relation message says how rows look from here on. One that repeats what is known keeps
    /// the pointer that is known: a table has one identity in the engine while it is not altered.
    /// It is passed on all the same: its name may have been that of another table meanwhile, whose
    /// rows were sent again.
    ///
    /// One that says something new stands between two fragments: a shape that is added once it is
    /// known comes after all rows that look otherwise.
    fn relation(&mut self, message: &RelationMessage<'_>, out: &mut VecDeque<Assembled>) {
        let known = self.known.get(&message.oid);
        let relation = match known {
            Some(known) if looks_like(known, message) => Arc::clone(known),
            known => Arc::new(build(message, known.map(|known| &**known))),
        };
        self.known.insert(message.oid, Arc::clone(&relation));
        let announced = self.announced.get(&message.oid);
        let is_new = announced.is_none_or(|announced| !Arc::ptr_eq(announced, &relation));
        if let Some(open) = self.open.as_mut().filter(|open| is_new && !open.builder.is_empty()) {
            out.push_back(Assembled::Fragment(Arc::new(open.builder.cut())));
        }
        out.push_back(Assembled::Relation(Arc::clone(&relation)));
        self.announced.insert(message.oid, relation);
    }
}

fn looks_like(known: &Relation, message: &RelationMessage<'_>) -> bool {
    *known.table.schema == *message.schema
        && *known.table.name == *message.name
        && known.columns.len() == message.columns.len()
        && known
            .columns
            .iter()
            .zip(&message.columns)
            .all(|(known, column)| *known.name == *column.name && known.type_oid == column.type_oid)
}

/// The table of a message, which says neither what is the primary key nor which types are enums
/// or arrays of them: that is what was known of the table, by the columns' names and by the types'
/// OIDs.
fn build(message: &RelationMessage<'_>, known: Option<&Relation>) -> Relation {
    let is_key = |name: &str| {
        known.is_some_and(|known| known.columns.iter().any(|c| c.key && &*c.name == name))
    };
    let enum_oid =
        |type_oid: u32| known?.columns.iter().find(|column| column.type_oid == type_oid)?.enum_oid;
    let columns = message.columns.iter().map(|column| Column {
        enum_oid: enum_oid(column.type_oid),
        ..Column::new(column.name, column.type_oid, is_key(column.name))
    });
    Relation::new(message.oid, TableName::new(message.schema, message.name), columns.collect())
}

fn full<'a>(old: Option<OldTuple<'a>>, relation: &Relation) -> Result<Tuple<'a>, AssembleError> {
    match old {
        Some(OldTuple::Full(old)) => Ok(old),
        Some(OldTuple::Key(_)) | None => {
            Err(AssembleError::NotFull { table: super::quote::table(&relation.table) })
        }
    }
}
