//! View: which columns of its table a shape selects, and how much of a change it is told. Names
//! and a relation come in; what one change says to the shape comes out.

use super::change::{ChangeRef, RowRef, Value};
use super::delivery::Formed;
use super::relation::{Column, Relation};
use super::shape::ShapeDefinition;
use super::{Operation, TableName};
use smallvec::SmallVec;
use std::sync::Arc;

/// How much of a change a shape is told. It says nothing of which changes reach the shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Replica {
    /// Of an update the primary key and what changed, of a delete the primary key.
    #[default]
    Default,
    /// Every selected column, and what it was before where an update changed it.
    Full,
}

/// A list of columns that no shape can select.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnsError {
    /// The list names nothing.
    #[error("the list of columns is empty: name one, or give no list to select all of {table}")]
    Empty {
        /// The shape's table.
        table: TableName,
    },
    /// The table has no such column.
    #[error(
        "{table} has no column {column:?} (number {position} of the list); names are compared as \
         Postgres stores them"
    )]
    Unknown {
        /// The name.
        column: Box<str>,
        /// Its place in the list, from 1.
        position: usize,
        /// The shape's table.
        table: TableName,
    },
    /// A column is named twice.
    #[error("column {column:?} is number {first} and again number {position} of the list")]
    Duplicate {
        /// The name.
        column: Box<str>,
        /// Its second place in the list, from 1.
        position: usize,
        /// Its first.
        first: usize,
    },
    /// Without a primary key nothing would say which row a change is of.
    #[error(
        "{table} has no primary key, so its shapes select all columns: give no list, or add a \
         primary key and announce the table again"
    )]
    NoKey {
        /// The shape's table.
        table: TableName,
    },
}

/// A set of columns of one table, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ColumnSet {
    /// Grown as columns come in and never shrunk, so that equal sets are equal.
    words: SmallVec<[u64; 2]>,
}

impl ColumnSet {
    pub(crate) fn insert(&mut self, column: usize) {
        let word = column / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (column % 64);
    }

    pub(crate) fn contains(&self, column: usize) -> bool {
        self.words.get(column / 64).is_some_and(|word| word >> (column % 64) & 1 == 1)
    }

    pub(crate) fn intersects(&self, other: &ColumnSet) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }
}

/// What a shape is told, apart from which rows are its own. One word; nothing at all behind it for
/// a shape that selects every column in the default mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct View(Option<Arc<Parts>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Parts {
    /// `None` is every column.
    columns: Option<ColumnSet>,
    replica: Replica,
}

impl View {
    /// The view that `definition` asks for. The primary key is always in it.
    pub(crate) fn of(
        relation: &Relation,
        definition: &ShapeDefinition,
    ) -> Result<View, ColumnsError> {
        let columns = match &definition.columns {
            Some(names) => selection(relation, names)?,
            None => None,
        };
        let replica = definition.replica;
        let plain = columns.is_none() && replica == Replica::Default;
        Ok(View((!plain).then(|| Arc::new(Parts { columns, replica }))))
    }

    /// The columns that are selected; `None` is all of them.
    pub(crate) fn columns(&self) -> Option<&ColumnSet> {
        self.0.as_ref()?.columns.as_ref()
    }

    /// Whether it is every column in the default mode.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.is_none()
    }

    fn replica(&self) -> Replica {
        self.0.as_ref().map_or(Replica::Default, |parts| parts.replica)
    }

    fn selects(&self, column: usize) -> bool {
        self.columns().is_none_or(|columns| columns.contains(column))
    }
}

/// The columns `names` and the primary key; `None` if these are all that there are.
fn selection(relation: &Relation, names: &[Box<str>]) -> Result<Option<ColumnSet>, ColumnsError> {
    let table = || relation.table.clone();
    if names.is_empty() {
        return Err(ColumnsError::Empty { table: table() });
    }
    let mut columns = ColumnSet::default();
    for (place, name) in names.iter().enumerate() {
        let (column, position) = (name.clone(), place + 1);
        let Some(index) = relation.column_index(name) else {
            return Err(ColumnsError::Unknown { column, position, table: table() });
        };
        if columns.contains(index) {
            let first = names.iter().position(|other| other == name).unwrap_or(place) + 1;
            return Err(ColumnsError::Duplicate { column, position, first });
        }
        columns.insert(index);
    }
    if !relation.has_key() {
        return Err(ColumnsError::NoKey { table: table() });
    }
    let keys = relation.columns.iter().enumerate().filter(|(_, column)| column.key);
    keys.for_each(|(index, _)| columns.insert(index));
    let all = (0..relation.columns.len()).all(|index| columns.contains(index));
    Ok((!all).then_some(columns))
}

/// One column of a change, as its shape is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnValue<'a> {
    /// The column's index in its relation.
    pub index: usize,
    /// The column.
    pub column: &'a Column,
    /// Its value: after an insert or an update, before a delete.
    pub value: Value<'a>,
    /// Its value before an update that changed it, in the mode [`Replica::Full`].
    pub before: Option<Value<'a>>,
}

impl<'a> Formed<'a> {
    /// What a shape with `view` is told of the change: see [`Replica`]. Where a table has no
    /// primary key, all of its columns together are one. Of a truncate there is nothing to tell.
    pub(crate) fn told(self, view: &'a View) -> impl Iterator<Item = ColumnValue<'a>> + use<'a> {
        let relation = self.change().relation();
        let all = view.replica() == Replica::Full || !relation.has_key();
        let (row, all) = match self.operation() {
            Operation::Insert => (self.new_row(), true),
            Operation::Update => (self.change().whole_new_row(), all),
            Operation::Delete => (self.old_row(), all),
            Operation::Truncate => (None, false),
        };
        let old = self.old_row().filter(|_| self.operation() == Operation::Update);
        let columns = relation.columns.iter().enumerate();
        let columns = columns.filter(|(index, _)| view.selects(*index));
        columns.filter_map(move |(index, column)| {
            let row = row?;
            let before = old.filter(|old| is_changed(*old, row, index));
            let told = all || column.key || before.is_some();
            let before = before.filter(|_| view.replica() == Replica::Full);
            let before = before.and_then(|before| before.get(index));
            let value = row.get(index).filter(|_| told)?;
            Some(ColumnValue { index, column, value, before })
        })
    }
}

impl ChangeRef<'_> {
    /// The columns that an update gave another value.
    pub(crate) fn changed(&self) -> ColumnSet {
        let mut changed = ColumnSet::default();
        self.each_changed().for_each(|column| changed.insert(column));
        changed
    }

    /// Whether an update gave any column another value.
    pub(crate) fn changes_something(&self) -> bool {
        self.each_changed().next().is_some()
    }

    fn each_changed(&self) -> impl Iterator<Item = usize> {
        let rows = self.old_row().zip(self.new_row());
        let columns = 0..rows.map_or(0, |(_, new)| new.len());
        columns.filter(move |column| rows.is_some_and(|(old, new)| is_changed(old, new, *column)))
    }
}

/// Whether an update of row `old` to `new` gave the column another value.
fn is_changed(old: RowRef<'_>, new: RowRef<'_>, column: usize) -> bool {
    let new = new.get(column);
    new != Some(Value::Unchanged) && new != old.get(column)
}
