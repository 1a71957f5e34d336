//! Fragment: a slice of one transaction. Immutable and shared by pointer: the engine never copies
//! a row on its way to a shape. [`TransactionBuilder`] cuts a transaction into fragments.

use super::change::{Cell, Change, ChangeRef, Operation, RowSpan, Value};
use super::lsn::Lsn;
use super::offset::Offset;
use super::relation::Relation;
use std::sync::Arc;

/// How large a fragment may grow. A single change that is larger than `bytes_max` gets a fragment
/// of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentLimits {
    /// At most this many changes; one more where the last is a change of a primary key, which
    /// counts twice.
    pub changes_max: usize,
    /// At most this many bytes of values.
    pub bytes_max: usize,
}

impl Default for FragmentLimits {
    fn default() -> FragmentLimits {
        FragmentLimits { changes_max: 100, bytes_max: 1 << 20 }
    }
}

/// The parts of a fragment, as the builder and the log's decoder lay them out.
#[derive(Debug, Default)]
pub(crate) struct FragmentParts {
    pub(crate) xid: u32,
    pub(crate) commit_lsn: Lsn,
    pub(crate) begin: bool,
    pub(crate) end_lsn: Option<Lsn>,
    pub(crate) relations: Vec<Arc<Relation>>,
    pub(crate) changes: Vec<Change>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) data: Vec<u8>,
}

/// A slice of one committed transaction.
///
/// The first fragment of a transaction carries `begin`, the last one `commit`; a commit fragment
/// may hold no change. Made by a [`TransactionBuilder`].
#[derive(Debug)]
pub struct Fragment {
    parts: FragmentParts,
}

impl Fragment {
    /// A fragment from parts that reference one another correctly: each change's relation and
    /// cells exist, each cell lies in `data`. The builder makes them so; the log's decoder checks.
    pub(crate) fn from_parts(parts: FragmentParts) -> Fragment {
        Fragment { parts }
    }

    /// The transaction's id, as Postgres numbers it (32 bits, wraps around).
    pub fn xid(&self) -> u32 {
        self.parts.xid
    }

    /// The transaction's commit LSN: the start of its commit record.
    pub fn commit_lsn(&self) -> Lsn {
        self.parts.commit_lsn
    }

    /// Whether this is the transaction's first fragment.
    pub fn begins(&self) -> bool {
        self.parts.begin
    }

    /// The end of the commit record, if this is the transaction's last fragment.
    pub fn end_lsn(&self) -> Option<Lsn> {
        self.parts.end_lsn
    }

    /// Whether this is the transaction's last fragment.
    pub fn commits(&self) -> bool {
        self.parts.end_lsn.is_some()
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.parts.changes.len()
    }

    /// Whether it holds no change.
    pub fn is_empty(&self) -> bool {
        self.parts.changes.is_empty()
    }

    /// The change at `index`, or `None` beyond the last.
    pub fn get(&self, index: usize) -> Option<ChangeRef<'_>> {
        self.parts.changes.get(index).map(|change| ChangeRef::new(self, change))
    }

    /// All changes, in order.
    pub fn changes(&self) -> impl Iterator<Item = ChangeRef<'_>> {
        self.parts.changes.iter().map(|change| ChangeRef::new(self, change))
    }

    /// The position that a reader has reached when it has taken the whole fragment: one that holds
    /// a change, or commits.
    pub fn last_offset(&self) -> Offset {
        let commit = self.commit_lsn();
        match self.parts.changes.last() {
            _ if self.commits() => Offset::commit_mark(commit),
            Some(change) => Offset::new(commit, change.op),
            None => Offset::new(commit, 0),
        }
    }

    /// The memory that it holds, about, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Fragment>()
            + self.parts.data.len()
            + self.parts.cells.len() * size_of::<Cell>()
            + self.parts.changes.len() * size_of::<Change>()
    }

    /// The relations that its changes belong to.
    pub(crate) fn relations(&self) -> &[Arc<Relation>] {
        &self.parts.relations
    }

    pub(crate) fn raw_changes(&self) -> &[Change] {
        &self.parts.changes
    }

    pub(crate) fn cells(&self) -> &[Cell] {
        &self.parts.cells
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.parts.data
    }
}

/// A change or a transaction that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FragmentError {
    /// A row has another number of values than its relation has columns.
    #[error("a row of {table} has {found} values, but the relation has {expected} columns")]
    ColumnCount {
        /// The table, as `schema.name`.
        table: String,
        /// The relation's number of columns.
        expected: usize,
        /// The row's number of values.
        found: usize,
    },
    /// A fragment's values pass 4 GiB.
    #[error("the values of one change of {table} pass 4 GiB, which is more than Postgres allows")]
    TooLarge {
        /// The table, as `schema.name`.
        table: String,
    },
}

/// Builds one transaction, fragment by fragment.
///
/// ```
/// use std::sync::Arc;
/// use walfan::{Column, Lsn, Relation, TableName, TransactionBuilder, Value};
///
/// let columns = vec![Column::new("id", 20, true), Column::new("name", 25, false)];
/// let items = Arc::new(Relation::new(16_384, TableName::new("public", "items"), columns));
/// let mut transaction = TransactionBuilder::new(733, Lsn::new(0x1000));
/// transaction.insert(&items, [Value::Text(b"7"), Value::Null])?;
/// let fragment = transaction.commit(Lsn::new(0x1030));
/// assert!(fragment.begins() && fragment.commits() && fragment.len() == 1);
/// # Ok::<(), walfan::FragmentError>(())
/// ```
#[derive(Debug)]
pub struct TransactionBuilder {
    limits: FragmentLimits,
    next_op: u64,
    parts: FragmentParts,
}

impl TransactionBuilder {
    /// Starts the transaction `xid` that commits at `commit_lsn`, with default limits.
    pub fn new(xid: u32, commit_lsn: Lsn) -> TransactionBuilder {
        let parts = FragmentParts { xid, commit_lsn, begin: true, ..FragmentParts::default() };
        TransactionBuilder { limits: FragmentLimits::default(), next_op: 0, parts }
    }

    /// Sets other limits.
    pub fn with_limits(mut self, limits: FragmentLimits) -> TransactionBuilder {
        self.limits = limits;
        self
    }

    /// Appends the insert of `row`.
    pub fn insert<'v>(
        &mut self,
        relation: &Arc<Relation>,
        row: impl IntoIterator<Item = Value<'v>>,
    ) -> Result<(), FragmentError> {
        let mark = self.mark();
        let new = self.row(relation, row, mark)?;
        let op = self.take_op();
        self.push(relation, op, Operation::Insert, (None, Some(new)));
        Ok(())
    }

    /// Appends the update of row `old` to `new`. One that changes the primary key takes one row
    /// away and brings another: it becomes a delete of `old` and an insert of all of `new`, the
    /// second at the op index after the first one's.
    pub fn update<'v>(
        &mut self,
        relation: &Arc<Relation>,
        old: impl IntoIterator<Item = Value<'v>>,
        new: impl IntoIterator<Item = Value<'v>>,
    ) -> Result<(), FragmentError> {
        let mark = self.mark();
        let old = self.row(relation, old, mark)?;
        let new = self.row(relation, new, mark)?;
        let op = self.take_op();
        if !self.changes_key(relation, old, new) {
            self.push(relation, op, Operation::Update, (Some(old), Some(new)));
            return Ok(());
        }
        // Who gets the insert may never have seen the row before.
        for index in 0..new.len as usize {
            if self.cell(new, index) == Cell::UNCHANGED {
                self.parts.cells[new.first as usize + index] = self.cell(old, index);
            }
        }
        self.push(relation, op, Operation::Delete, (Some(old), None));
        self.push(relation, op + 1, Operation::Insert, (None, Some(new)));
        Ok(())
    }

    /// Appends the delete of row `old`.
    pub fn delete<'v>(
        &mut self,
        relation: &Arc<Relation>,
        old: impl IntoIterator<Item = Value<'v>>,
    ) -> Result<(), FragmentError> {
        let mark = self.mark();
        let old = self.row(relation, old, mark)?;
        let op = self.take_op();
        self.push(relation, op, Operation::Delete, (Some(old), None));
        Ok(())
    }

    /// Appends the truncate of `relation`.
    pub fn truncate(&mut self, relation: &Arc<Relation>) {
        let op = self.take_op();
        self.push(relation, op, Operation::Truncate, (None, None));
    }

    /// Whether the fragment being filled has reached a limit: cut it before the next change.
    pub fn is_full(&self) -> bool {
        self.parts.changes.len() >= self.limits.changes_max
            || self.parts.data.len() >= self.limits.bytes_max
    }

    /// Whether the fragment being filled holds no change.
    pub fn is_empty(&self) -> bool {
        self.parts.changes.is_empty()
    }

    /// Takes what was filled as a fragment; the transaction goes on.
    pub fn cut(&mut self) -> Fragment {
        let FragmentParts { xid, commit_lsn, .. } = self.parts;
        let rest = FragmentParts { xid, commit_lsn, ..FragmentParts::default() };
        Fragment::from_parts(std::mem::replace(&mut self.parts, rest))
    }

    /// Ends the transaction, whose commit record ends at `end_lsn`.
    pub fn commit(mut self, end_lsn: Lsn) -> Fragment {
        self.parts.end_lsn = Some(end_lsn);
        Fragment::from_parts(self.parts)
    }

    fn mark(&self) -> (usize, usize) {
        (self.parts.cells.len(), self.parts.data.len())
    }

    fn row<'v>(
        &mut self,
        relation: &Relation,
        values: impl IntoIterator<Item = Value<'v>>,
        mark: (usize, usize),
    ) -> Result<RowSpan, FragmentError> {
        let first = self.parts.cells.len();
        for value in values {
            let cell = match value {
                Value::Null => Cell::NULL,
                Value::Unchanged => Cell::UNCHANGED,
                Value::Text(text) => {
                    let start = self.parts.data.len();
                    self.parts.data.extend_from_slice(text);
                    Cell { start: start as u32, len: text.len() as u32 }
                }
            };
            self.parts.cells.push(cell);
        }
        let found = self.parts.cells.len() - first;
        let table = || relation.table.to_string();
        // Cell offsets are 32 bits, and the two highest lengths are marks.
        let error = if found != relation.columns.len() {
            FragmentError::ColumnCount { table: table(), expected: relation.columns.len(), found }
        } else if self.parts.data.len() >= Cell::UNCHANGED.len as usize {
            FragmentError::TooLarge { table: table() }
        } else {
            return Ok(RowSpan { first: first as u32, len: found as u32 });
        };
        // Nothing half done: the builder is as it was before the change.
        self.parts.cells.truncate(mark.0);
        self.parts.data.truncate(mark.1);
        Err(error)
    }

    fn changes_key(&self, relation: &Relation, old: RowSpan, new: RowSpan) -> bool {
        let text = |cell: Cell| {
            let bytes = cell.start as usize..cell.start as usize + cell.bytes();
            (cell == Cell::NULL, cell == Cell::UNCHANGED, self.parts.data.get(bytes))
        };
        relation.columns.iter().enumerate().any(|(index, column)| {
            let (old, new) = (self.cell(old, index), self.cell(new, index));
            column.key && new != Cell::UNCHANGED && text(old) != text(new)
        })
    }

    fn cell(&self, row: RowSpan, index: usize) -> Cell {
        self.parts.cells[row.first as usize + index]
    }

    fn take_op(&mut self) -> u64 {
        let op = self.next_op;
        self.next_op += Offset::OP_STEP;
        op
    }

    fn push(
        &mut self,
        relation: &Arc<Relation>,
        op: u64,
        operation: Operation,
        (old, new): (Option<RowSpan>, Option<RowSpan>),
    ) {
        let relations = &mut self.parts.relations;
        // Nearly always the last one; a fragment names few relations.
        let known = relations.iter().rposition(|known| Arc::ptr_eq(known, relation));
        let relation = known.unwrap_or_else(|| {
            relations.push(Arc::clone(relation));
            relations.len() - 1
        }) as u32;
        self.parts.changes.push(Change { op, operation, relation, old, new });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Column, TableName};

    fn items() -> Arc<Relation> {
        let columns = vec![Column::new("id", 20, true), Column::new("name", 25, false)];
        Arc::new(Relation::new(1, TableName::new("public", "items"), columns))
    }

    #[test]
    fn a_transaction_is_cut_into_fragments_whose_ops_go_on() {
        let items = items();
        let limits = FragmentLimits { changes_max: 2, ..FragmentLimits::default() };
        let mut builder = TransactionBuilder::new(9, Lsn::new(100)).with_limits(limits);
        let mut fragments = Vec::new();
        for id in 0..5u8 {
            builder.insert(&items, [Value::Text(&[b'0' + id]), Value::Null]).unwrap();
            if builder.is_full() {
                fragments.push(builder.cut());
            }
        }
        fragments.push(builder.commit(Lsn::new(110)));
        let shape: Vec<_> =
            fragments.iter().map(|f| (f.begins(), f.commits(), f.len(), f.last_offset())).collect();
        let lsn = Lsn::new(100);
        assert_eq!(
            shape,
            [
                (true, false, 2, Offset::new(lsn, 2)),
                (false, false, 2, Offset::new(lsn, 6)),
                (false, true, 1, Offset::commit_mark(lsn)),
            ]
        );
        let last = fragments[2].get(0).unwrap();
        assert_eq!(last.offset(), Offset::new(lsn, 8));
        let row: Vec<_> = last.new_row().unwrap().values().collect();
        assert_eq!(row, [Value::Text(b"4"), Value::Null]);
    }

    #[test]
    fn a_change_of_the_primary_key_is_a_delete_and_an_insert_of_the_whole_row() {
        let items = items();
        let (one, two, name) = (Value::Text(b"1"), Value::Text(b"2"), Value::Text(b"name"));
        let mut builder = TransactionBuilder::new(9, Lsn::new(100));
        builder.update(&items, [one, name], [one, Value::Null]).unwrap();
        builder.update(&items, [one, name], [two, Value::Unchanged]).unwrap();
        builder.update(&items, [one, name], [Value::Unchanged, name]).unwrap();
        // An old row that does not say is another one, rather than none.
        builder.update(&items, [Value::Unchanged, name], [one, name]).unwrap();
        let fragment = builder.commit(Lsn::new(101));
        let found: Vec<_> = fragment
            .changes()
            .map(|change| {
                let new = change.new_row().and_then(|row| row.get(0).zip(row.get(1)));
                (change.offset().op, change.operation(), new)
            })
            .collect();
        use Operation::{Delete, Insert, Update};
        let row = |id, name| Some((id, name));
        assert_eq!(
            found,
            [
                (0, Update, row(one, Value::Null)),
                (2, Delete, None),
                (3, Insert, row(two, name)),
                (4, Update, row(Value::Unchanged, name)),
                (6, Delete, None),
                (7, Insert, row(one, name)),
            ]
        );
    }

    #[test]
    fn a_row_that_does_not_fit_its_relation_leaves_the_builder_as_it_was() {
        let items = items();
        let mut builder = TransactionBuilder::new(9, Lsn::new(100));
        let error = builder.update(&items, [Value::Null, Value::Null], [Value::Text(b"1")]);
        let expected =
            FragmentError::ColumnCount { table: "public.items".into(), expected: 2, found: 1 };
        assert_eq!(error, Err(expected));
        assert!(builder.is_empty() && builder.parts.cells.is_empty());
        builder.delete(&items, [Value::Text(b"1"), Value::Unchanged]).unwrap();
        let fragment = builder.commit(Lsn::new(101));
        let row = fragment.get(0).unwrap().old_row().unwrap();
        assert_eq!(row.get(0), Some(Value::Text(b"1")));
        assert_eq!(row.get(1), Some(Value::Unchanged));
        assert_eq!(row.get(2), None);
    }
}
