//! Shape: what a living shape is and where it lives. One value for its shard and for who asks from
//! outside of it, and a small one: there are hundreds of thousands.

use crate::consumer::Ack;
use crate::predicate::Predicate;
use crate::words::{Handle, Offset, Relation, Replica, ShapeDefinition, Slot, View};
use std::sync::Arc;

/// See the file's head. Nothing of it ever changes.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) handle: Handle,
    /// At most 256 are there.
    pub(crate) shard: u16,
    pub(crate) slot: Slot,
    /// Everything after it is the shape's.
    pub(crate) first: Offset,
    /// Its table as it was when the shape was added.
    pub(crate) relation: Arc<Relation>,
    pub(crate) predicate: Predicate,
    pub(crate) view: View,
    /// Whether the flushed LSN waits for its consumer, or for its log alone.
    pub(crate) ack: Ack,
    pub(crate) definition: Definition,
}

// With the two counts of an `Arc` it fills a size that allocators have, and the next one is more.
const _: () = assert!(size_of::<Shape>() <= 80, "it is there once a shape");

/// A definition beside its table.
#[derive(Debug)]
pub(crate) enum Definition {
    /// The table's rows for which this is true, and nothing besides: what most are.
    Filtered(Box<str>),
    Whole(Arc<ShapeDefinition>),
}

impl Definition {
    pub(crate) fn new(definition: &Arc<ShapeDefinition>, relation: &Relation) -> Definition {
        let ShapeDefinition { table, where_clause, params, columns, replica } = &**definition;
        let filters = *table == relation.table && params.is_empty() && columns.is_none();
        match where_clause {
            Some(clause) if filters && *replica == Replica::Default => {
                Definition::Filtered(clause.clone())
            }
            _ => Definition::Whole(Arc::clone(definition)),
        }
    }
}

impl Shape {
    /// Its definition, as it was given.
    pub(crate) fn definition(&self) -> Arc<ShapeDefinition> {
        match &self.definition {
            Definition::Filtered(clause) => {
                Arc::new(ShapeDefinition::filtered(self.relation.table.clone(), clause))
            }
            Definition::Whole(definition) => Arc::clone(definition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Column, TableName};

    #[test]
    fn f04_a_definition_is_given_back_as_it_was_and_most_are_a_text_alone() {
        let table = TableName::new("public", "items");
        let columns = vec![Column::new("id", 20, true), Column::new("kind", 25, false)];
        let relation = Arc::new(Relation::new(1, table.clone(), columns));
        let plain = ShapeDefinition::filtered(table.clone(), "id = 7");
        let other_table = ShapeDefinition::filtered(TableName::new("other", "items"), "id = 7");
        for (definition, is_text) in [
            (plain.clone(), true),
            (ShapeDefinition::table(table), false),
            (plain.clone().with_columns(["id"]), false),
            (plain.clone().with_replica(Replica::Full), false),
            (plain.with_params([Some("7")]), false),
            (other_table, false),
        ] {
            let definition = Arc::new(definition);
            let kept = Definition::new(&definition, &relation);
            assert_eq!(matches!(kept, Definition::Filtered(_)), is_text, "{definition}");
            let shape = Shape {
                handle: Handle::new(1),
                shard: 0,
                slot: Slot::new(0),
                first: Offset::ZERO,
                relation: Arc::clone(&relation),
                predicate: Predicate::ALWAYS,
                view: View::default(),
                ack: Ack::Log,
                definition: kept,
            };
            assert_eq!(shape.definition(), definition);
        }
    }
}
