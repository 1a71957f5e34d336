//! Tables: which tables a shard's shapes were compiled against, and what ends those whose table has
//! come to mean something else: altered, renamed, or dropped and made again under its name. Shapes
//! that are routed to are counted here; announcements come with the changes.

use super::Shard;
use crate::words::{Column, Relation, TableName};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::sync::Arc;

/// A table as some shapes were compiled against it.
struct Version {
    relation: Arc<Relation>,
    shapes: usize,
}

/// What an announcement contradicts.
#[derive(Default)]
struct Against {
    versions: Vec<Arc<Relation>>,
    /// The table is the same, but not its key.
    rekeyed: bool,
    /// What was contradicted before, and is so after all.
    confirmed: Vec<Arc<Relation>>,
}

/// See the file's head. Holds nothing of a table whose last shape has left.
#[derive(Default)]
pub(super) struct Tables {
    /// By OID; one each, but while a table is altered.
    versions: HashMap<u32, Vec<Version>, RandomState>,
    /// The OIDs that have a version of this name; one each, but while a table is made again.
    oids: HashMap<TableName, Vec<u32>, RandomState>,
    /// The last announcement that all shapes were found to agree with: most changes are of the same
    /// table as the one before, and cost a look at a pointer.
    agreed: Option<Arc<Relation>>,
    /// What was announced last of a table and contradicted here by a change: it may be ahead of the
    /// stream, and then one comes that agrees with it. At most one of each name.
    contradicted: Vec<Arc<Relation>>,
}

impl Tables {
    /// A shape that was compiled against `relation` is routed to from here on.
    pub(super) fn enter(&mut self, relation: &Arc<Relation>) {
        let versions = self.versions.entry(relation.oid).or_default();
        if let Some(known) = versions.iter_mut().find(|known| is_same(&known.relation, relation)) {
            known.shapes += 1;
            return;
        }
        versions.push(Version { relation: Arc::clone(relation), shapes: 1 });
        let oids = self.oids.entry_ref(&relation.table).or_default();
        if !oids.contains(&relation.oid) {
            oids.push(relation.oid);
        }
        self.agreed = None;
    }

    /// A shape that entered with `relation` has left.
    pub(super) fn leave(&mut self, relation: &Arc<Relation>) {
        let Some(versions) = self.versions.get_mut(&relation.oid) else { return };
        let Some(at) = versions.iter().position(|known| is_same(&known.relation, relation)) else {
            return;
        };
        versions[at].shapes -= 1;
        if versions[at].shapes > 0 {
            return;
        }
        versions.swap_remove(at);
        let named = versions.iter().any(|known| known.relation.table == relation.table);
        if versions.is_empty() {
            self.versions.remove(&relation.oid);
        }
        if !named && let Some(oids) = self.oids.get_mut(&relation.table) {
            oids.retain(|oid| *oid != relation.oid);
            if oids.is_empty() {
                self.oids.remove(&relation.table);
            }
        }
    }

    /// What cannot be while a change of `relation` comes: versions that have its OID or its name,
    /// and are not the same. Costs nothing for a relation that was looked at just before.
    #[inline]
    fn against(&mut self, relation: &Arc<Relation>) -> Against {
        if self.agreed.as_ref().is_some_and(|agreed| Arc::ptr_eq(agreed, relation)) {
            return Against::default();
        }
        self.look_up(relation)
    }

    #[cold]
    fn look_up(&mut self, relation: &Arc<Relation>) -> Against {
        let mut rekeyed = false;
        for known in self.versions.get_mut(&relation.oid).into_iter().flatten() {
            if is_same(&known.relation, relation) && known.relation.columns != relation.columns {
                known.relation = Arc::clone(relation);
                rekeyed = true;
            }
        }
        self.agreed = Some(Arc::clone(relation));
        let of_name = self.oids.get(&relation.table).into_iter().flatten();
        let oids = of_name.filter(|oid| **oid != relation.oid).chain([&relation.oid]);
        let versions = oids.filter_map(|oid| self.versions.get(oid)).flatten();
        let against = versions.filter(|known| {
            let concerned =
                known.relation.oid == relation.oid || known.relation.table == relation.table;
            concerned && !is_same(&known.relation, relation)
        });
        let versions = against.map(|known| Arc::clone(&known.relation)).collect();
        let agrees = |known: &mut Arc<Relation>| is_same(known, relation);
        let confirmed = self.contradicted.extract_if(.., agrees).collect();
        Against { versions, rekeyed, confirmed }
    }

    /// What was announced last is contradicted by a change.
    fn contradict(&mut self, announced: &Arc<Relation>) {
        self.contradicted.retain(|known| known.table != announced.table);
        self.contradicted.push(Arc::clone(announced));
    }
}

impl Shard {
    /// A change of `relation` comes: shapes that were compiled against another meaning of its name
    /// or its OID end here, because their rows go elsewhere or mean something else now. Nothing
    /// that is routed to begins after the change, so none of them is ahead of it in a replay.
    #[inline]
    pub(super) fn notice_relation(&mut self, relation: &Arc<Relation>) {
        let Against { versions, rekeyed, confirmed } = self.tables.against(relation);
        for outdated in versions {
            self.end_version(&outdated, relation);
        }
        for announced in confirmed {
            self.control.registry.mark(&announced, false);
        }
        if rekeyed {
            self.end_rekeyed(relation);
        }
    }

    /// How many meanings of tables its shapes go by.
    #[cfg(all(test, not(loom)))]
    pub(super) fn versions(&self) -> usize {
        self.tables.versions.values().map(Vec::len).sum()
    }

    /// Whether a table is still as `relation` says, as far as anybody knows.
    pub(super) fn is_current(&self, relation: &Arc<Relation>) -> bool {
        let known = self.control.registry.relation(&relation.table);
        known.is_some_and(|known| !known.outdated && is_same(&known.relation, relation))
    }

    /// Another primary key ends those who select columns, because it is one of them.
    #[cold]
    fn end_rekeyed(&mut self, relation: &Relation) {
        let cause =
            format!("the primary key of {} was altered: add the shape again", relation.table);
        self.invalidate_routed(relation.oid, &cause, |cold| {
            cold.shape.view.columns().is_some() && cold.shape.relation.columns != relation.columns
        });
    }

    fn end_version(&mut self, outdated: &Arc<Relation>, by: &Relation) {
        let what = if outdated.oid == by.oid {
            "was altered".to_owned()
        } else {
            format!("is another one now (OID {}, was {})", by.oid, outdated.oid)
        };
        let cause = format!("table {} {what}: add the shape again", outdated.table);
        // Who compiles against the same announcement is refused, until a change agrees with it.
        if self.control.registry.mark(outdated, true) {
            self.tables.contradict(outdated);
        }
        self.invalidate_routed(outdated.oid, &cause, |cold| {
            is_same(&cold.shape.relation, outdated)
        });
    }
}

/// Whether two announcements mean the same rows of the same table. Which columns are keys depends
/// on the replica identity, and changes nothing for a shape that selects all columns.
fn is_same(known: &Arc<Relation>, relation: &Arc<Relation>) -> bool {
    if Arc::ptr_eq(known, relation) {
        return true;
    }
    let same =
        |(one, other): (&Column, &Column)| one.name == other.name && one.type_oid == other.type_oid;
    known.oid == relation.oid
        && known.table == relation.table
        && known.columns.len() == relation.columns.len()
        && known.columns.iter().zip(&relation.columns).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(oid: u32, name: &str, column: &str) -> Arc<Relation> {
        let columns = vec![Column::new(column, 20, true)];
        Arc::new(Relation::new(oid, TableName::new("public", name), columns))
    }

    fn against(tables: &mut Tables, relation: &Arc<Relation>) -> Vec<(u32, String)> {
        let against = tables.against(relation);
        let versions = against.versions.iter();
        versions.map(|known| (known.oid, known.table.name.to_string())).collect()
    }

    #[test]
    fn what_has_the_name_or_the_oid_and_is_not_the_same_is_against() {
        let mut tables = Tables::default();
        let (items, orders) = (relation(1, "items", "id"), relation(2, "orders", "id"));
        for relation in [&items, &items, &orders] {
            tables.enter(relation);
        }
        for same in [&items, &orders, &relation(1, "items", "id"), &relation(3, "other", "id")] {
            assert_eq!(against(&mut tables, same), []);
        }
        let of_items = [(1, "items".to_owned())];
        for other in
            [relation(1, "items", "no"), relation(1, "new", "id"), relation(4, "items", "id")]
        {
            assert_eq!(against(&mut tables, &other), of_items);
            assert_eq!(against(&mut tables, &other), [], "it was looked at");
        }
        let swapped = [(1, "items".to_owned()), (2, "orders".to_owned())];
        assert_eq!(against(&mut tables, &relation(2, "items", "id")), swapped);
        // A version that comes is looked at again.
        let other = relation(5, "items", "id");
        assert_eq!(against(&mut tables, &other), of_items);
        tables.enter(&relation(6, "items", "id"));
        assert_eq!(against(&mut tables, &other).len(), 2);
    }

    #[test]
    fn nothing_is_kept_of_a_table_whose_last_shape_has_left() {
        let mut tables = Tables::default();
        let versions =
            [relation(1, "items", "id"), relation(1, "items", "no"), relation(2, "items", "id")];
        for version in versions.iter().cycle().take(6) {
            tables.enter(version);
        }
        for version in &versions {
            tables.leave(version);
            assert_eq!(tables.oids[&version.table], [1, 2]);
        }
        for (version, left) in versions.iter().zip([2, 1, 0]) {
            tables.leave(version);
            assert_eq!(tables.versions.values().flatten().count(), left);
        }
        assert!(tables.versions.is_empty() && tables.oids.is_empty());
    }
}
