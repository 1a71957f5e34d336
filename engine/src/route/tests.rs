//! The router against a plain walk over all shapes, and what it must do where that is not enough.

use super::slots::SHARED_MIN;
use super::*;
use crate::predicate::{READS, RowView, ValueError, compile};
use crate::words::{Column, Form, Fragment, Lsn, Relation, TransactionBuilder, Value};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Texts a column of each type may hold, as a row carries them; constants are the same in quotes.
const DOMAINS: [(u32, &[&str]); 5] = [
    (16, &["t", "f"]),
    (20, &["-1", "0", "9223372036854775807"]),
    (23, &["1", "2", "3"]),
    (25, &["", "hot", "cold"]),
    (2950, &["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
];

fn relation(oid: u32, types: &[usize]) -> Arc<Relation> {
    let column = |(index, domain): (usize, &usize)| {
        Column::new(&format!("c{index}"), DOMAINS[*domain].0, false)
    };
    let columns = types.iter().enumerate().map(column).collect();
    Arc::new(Relation::new(oid, TableName::new("public", "items"), columns))
}

/// A column's value, as an index into its domain; beyond it NULL.
fn value(types: &[usize], column: usize, pick: usize) -> Value<'static> {
    let texts = DOMAINS[types[column]].1;
    texts.get(pick % (texts.len() + 1)).map_or(Value::Null, |text| Value::Text(text.as_bytes()))
}

fn clause(types: &[usize], terms: &[(usize, usize)]) -> String {
    let term = |(column, pick): &(usize, usize)| {
        let column = column % types.len();
        let texts = DOMAINS[types[column]].1;
        match texts.get(pick % (texts.len() + 1)) {
            Some(text) => format!("c{column} = '{text}'"),
            None => format!("c{column} = NULL"),
        }
    };
    terms.iter().map(term).collect::<Vec<_>>().join(" OR ")
}

#[derive(Clone, Debug)]
enum Step {
    /// So many shapes of one clause, or without terms of the whole table; and the bits of the
    /// columns that they select, none for all of them.
    Add(Vec<(usize, usize)>, usize, usize),
    /// Of the shapes that there are, those whose place modulo the first number is the second.
    Remove(usize, usize),
    Insert(Vec<usize>),
    Delete(Vec<usize>),
    /// Old row, new row, and which values of the new one are not sent.
    Update(Vec<usize>, Vec<usize>, Vec<bool>),
    Truncate,
    /// An insert into a table that has no shapes, or a shape and a truncate there.
    Elsewhere(bool),
}

const COLUMNS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let row = || prop::collection::vec(0..12_usize, COLUMNS);
    let flags = prop::collection::vec(prop::bool::weighted(0.2), COLUMNS);
    let terms = prop::collection::vec((0..COLUMNS, 0..12_usize), 0..4);
    let many = prop_oneof![3 => Just(1), 1 => 2..=SHARED_MIN + 8];
    let selected = prop_oneof![1 => Just(0), 1 => 1..1_usize << COLUMNS];
    prop_oneof![
        6 => (terms, many, selected).prop_map(|(terms, many, bits)| Step::Add(terms, many, bits)),
        2 => (1..5_usize, 0..5_usize).prop_map(|(by, at)| Step::Remove(by, at % by)),
        2 => row().prop_map(Step::Insert),
        2 => row().prop_map(Step::Delete),
        8 => (row(), row(), flags).prop_map(|(old, new, kept)| Step::Update(old, new, kept)),
        1 => Just(Step::Truncate),
        1 => any::<bool>().prop_map(Step::Elsewhere),
    ]
}

type Shape = (Predicate, Option<ColumnSet>);

fn selection(bits: usize) -> Option<ColumnSet> {
    let mut columns = ColumnSet::default();
    (0..COLUMNS).filter(|column| bits >> column & 1 == 1).for_each(|column| columns.insert(column));
    (bits != 0).then_some(columns)
}

struct World {
    types: Vec<usize>,
    relation: Arc<Relation>,
    router: Router,
    shapes: BTreeMap<Slot, Shape>,
    next_slot: u32,
    out: Routed,
    /// What was handed out, and what it held then.
    snapshots: Vec<(Targets, Vec<Slot>)>,
}

fn slots(targets: &Targets) -> Vec<Slot> {
    let mut slots = Vec::new();
    targets.for_each(|slot| slots.push(slot));
    slots.sort_unstable();
    slots
}

/// The rules of [`Targets`].
fn check_targets(targets: &Targets) {
    assert!(targets.slots.is_sorted_by(|a, b| a < b), "{targets:?}");
    for slot in &targets.slots {
        assert!(!targets.sets.iter().any(|set| set.slots.contains(slot.as_u32())), "{targets:?}");
    }
    assert!(targets.sets.iter().all(|set| !set.slots.is_empty()));
}

impl World {
    fn new(types: Vec<usize>) -> World {
        World {
            relation: relation(1, &types),
            types,
            router: Router::default(),
            shapes: BTreeMap::new(),
            next_slot: 0,
            out: Routed::default(),
            snapshots: Vec::new(),
        }
    }

    fn add(&mut self, terms: &[(usize, usize)], many: usize, bits: usize) {
        let columns = selection(bits);
        let clause = (!terms.is_empty()).then(|| clause(&self.types, terms));
        let predicate = compile(&self.relation, clause.as_deref()).unwrap();
        for _ in 0..many {
            let slot = Slot::new(self.next_slot);
            self.next_slot += 1;
            self.router.insert(slot, 1, columns.as_ref(), &predicate);
            self.shapes.insert(slot, (predicate.clone(), columns.clone()));
        }
    }

    fn remove(&mut self, by: usize, at: usize) {
        let slots: Vec<Slot> = self.shapes.keys().copied().skip(at).step_by(by).collect();
        for slot in slots {
            let (predicate, columns) = self.shapes.remove(&slot).unwrap();
            self.router.remove(slot, 1, columns.as_ref(), &predicate);
            self.router.remove(slot, 1, columns.as_ref(), &predicate);
        }
    }

    fn row(&self, picks: &[usize]) -> Vec<Value<'static>> {
        picks.iter().enumerate().map(|(column, pick)| value(&self.types, column, *pick)).collect()
    }

    fn change(&self, step: &Step) -> Fragment {
        let mut builder = TransactionBuilder::new(1, Lsn::new(1));
        match step {
            Step::Insert(new) => builder.insert(&self.relation, self.row(new)).unwrap(),
            Step::Delete(old) => builder.delete(&self.relation, self.row(old)).unwrap(),
            Step::Update(old, new, kept) => {
                let keep = |(value, kept)| if kept { Value::Unchanged } else { value };
                let new = self.row(new).into_iter().zip(kept.iter().copied()).map(keep);
                builder.update(&self.relation, self.row(old), new).unwrap();
            }
            _ => builder.truncate(&self.relation),
        }
        builder.commit(Lsn::new(2))
    }

    /// Asks each shape by itself.
    fn oracle(&self, change: ChangeRef<'_>) -> BTreeMap<Slot, Form> {
        let form = |(predicate, columns): &Shape| {
            let matches =
                |row, before| predicate.matches(&RowView::new(FullRow::new(row, before))).unwrap();
            let old = change.old_row().map(|row| matches(row, None));
            let new = change.new_row().map(|row| matches(row, change.old_row()));
            match (change.operation(), old, new) {
                (Operation::Truncate, ..) => Some(Form::AsIs),
                (Operation::Update, Some(true), Some(false)) => Some(Form::Delete),
                (Operation::Update, Some(false), Some(true)) => Some(Form::Insert),
                (Operation::Update, Some(true), Some(true)) => {
                    let selected = |column: &usize| match columns {
                        Some(columns) => columns.contains(*column),
                        None => true,
                    };
                    let old = FullRow::new(change.old_row()?, None);
                    let new = FullRow::new(change.new_row()?, change.old_row());
                    let differ = |column| old.text(column).unwrap() != new.text(column).unwrap();
                    (0..COLUMNS).filter(selected).any(differ).then_some(Form::AsIs)
                }
                (_, old, new) => (old != Some(false) && new != Some(false)).then_some(Form::AsIs),
            }
        };
        self.shapes.iter().filter_map(|(slot, shape)| Some((*slot, form(shape)?))).collect()
    }

    fn route(&mut self, step: &Step) {
        let fragment = self.change(step);
        let change = fragment.get(0).unwrap();
        self.router.route(change, &mut self.out).unwrap();
        let mut routed = BTreeMap::new();
        for (form, targets) in self.out.forms() {
            check_targets(targets);
            for slot in slots(targets) {
                assert_eq!(routed.insert(slot, form), None, "{slot} twice: {:?}", self.out);
            }
            self.snapshots.push((targets.clone(), slots(targets)));
        }
        assert_eq!(routed, self.oracle(change));
    }

    fn elsewhere(&mut self, shape: bool) {
        let relation = relation(2, &[1]);
        let mut builder = TransactionBuilder::new(1, Lsn::new(1));
        let slot = Slot::new(u32::MAX);
        if shape {
            self.router.insert(slot, 2, None, &Predicate::ALWAYS);
            builder.truncate(&relation);
        } else {
            builder.insert(&relation, [Value::Text(b"7")]).unwrap();
        }
        let fragment = builder.commit(Lsn::new(2));
        self.router.route(fragment.get(0).unwrap(), &mut self.out).unwrap();
        assert_eq!(slots(&self.out.as_is), if shape { vec![slot] } else { vec![] });
        self.router.remove(slot, 2, None, &Predicate::ALWAYS);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Add(terms, many, bits) => self.add(terms, *many, *bits),
            Step::Remove(by, at) => self.remove(*by, *at),
            Step::Elsewhere(shape) => self.elsewhere(*shape),
            change => self.route(change),
        }
        let all: Vec<Slot> = self.shapes.keys().copied().collect();
        assert_eq!(slots(&self.router.slots_of(1)), all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_is_routed_is_what_each_shape_by_itself_would_take(
        types in prop::collection::vec(0..DOMAINS.len(), COLUMNS),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(types);
        steps.iter().for_each(|step| world.step(step));
        for (targets, then) in &world.snapshots {
            prop_assert_eq!(&slots(targets), then);
        }
        // Nothing stays behind.
        world.remove(1, 0);
        prop_assert!(world.router.tables.is_empty() && world.router.selecting.is_empty());
    }
}

fn insert_of(relation: &Arc<Relation>, row: &[Value<'static>]) -> Fragment {
    let mut builder = TransactionBuilder::new(1, Lsn::new(1));
    builder.insert(relation, row.iter().copied()).unwrap();
    builder.commit(Lsn::new(2))
}

fn update_of(relation: &Arc<Relation>, old: &[Value<'static>], new: &[Value<'static>]) -> Fragment {
    let mut builder = TransactionBuilder::new(1, Lsn::new(1));
    builder.update(relation, old.iter().copied(), new.iter().copied()).unwrap();
    builder.commit(Lsn::new(2))
}

/// `many` shapes `c1 = 'hot' OR c0 = <slot>`.
fn fan_out(many: u32) -> (Arc<Relation>, Router) {
    let relation = relation(1, &[1, 3]);
    let mut router = Router::default();
    for slot in 0..many {
        let clause = format!("c1 = 'hot' OR c0 = {slot}");
        router.insert(Slot::new(slot), 1, None, &compile(&relation, Some(&clause)).unwrap());
    }
    (relation, router)
}

#[test]
fn a_set_goes_through_untouched_and_a_slot_that_is_in_it_is_not_named_again() {
    let (relation, mut router) = fan_out(1_000);
    let (seven, hot, cold) = (Value::Text(b"7"), Value::Text(b"hot"), Value::Text(b"cold"));
    let mut route = |fragment: Fragment| {
        let mut out = Routed::default();
        router.route(fragment.get(0).unwrap(), &mut out).unwrap();
        out
    };
    let one = route(insert_of(&relation, &[seven, hot]));
    assert_eq!((one.as_is.sets.len(), one.as_is.slots.len(), one.as_is.len()), (1, 0, 1_000));
    let kept = route(update_of(&relation, &[seven, hot], &[Value::Text(b"8"), hot]));
    assert!(Arc::ptr_eq(&kept.as_is.sets[0].slots, &one.as_is.sets[0].slots));
    assert_eq!(kept.as_is.sets[0].id, one.as_is.sets[0].id);
    // All but shape 7 lose the row: a set of its own, whose number is nobody else's.
    let left = route(update_of(&relation, &[seven, hot], &[seven, cold]));
    assert_eq!(left.as_is.slots.as_slice(), [Slot::new(7)]);
    assert_eq!(left.as_delete.len(), 999);
    assert_ne!(left.as_delete.sets[0].id, one.as_is.sets[0].id);
    // Nobody keeps it: the set goes to its class as it is.
    let all_left = route(update_of(&relation, &[Value::Null, hot], &[Value::Null, cold]));
    assert!(all_left.as_is.is_empty());
    assert!(Arc::ptr_eq(&all_left.as_delete.sets[0].slots, &one.as_is.sets[0].slots));
}

#[test]
fn a_value_that_cannot_be_read_is_an_error_and_routes_nothing() {
    let (relation, mut router) = fan_out(3);
    let mut out = Routed::default();
    let hot = Value::Text(b"hot");
    let fragment = insert_of(&relation, &[Value::Text(b"1"), hot]);
    router.route(fragment.get(0).unwrap(), &mut out).unwrap();
    assert_eq!(out.as_is.len(), 3);
    for (row, error) in [
        (
            [Value::Text(b"x"), hot],
            ValueError::Invalid { column: 0, expected: crate::predicate::KeyKind::Int.widest() },
        ),
        ([Value::Unchanged, hot], ValueError::NotSent { column: 0 }),
    ] {
        let fragment = insert_of(&relation, &row);
        let table = relation.table.clone();
        let expected = Err(RouteError::Value { table, error });
        assert_eq!(router.route(fragment.get(0).unwrap(), &mut out), expected);
        assert!(out.is_empty());
    }
    // A table that lost a column in between.
    let short = Arc::new(Relation { columns: Box::new([]), ..Relation::clone(&relation) });
    let fragment = insert_of(&short, &[]);
    let error = router.route(fragment.get(0).unwrap(), &mut out).unwrap_err();
    assert!(matches!(error, RouteError::Value { error: ValueError::Missing { column: 0 }, .. }));
    // Bytes that no clause looks at are nobody's business.
    let other = Arc::new(Relation { oid: 2, ..Relation::clone(&relation) });
    router.insert(Slot::new(9), 2, None, &Predicate::ALWAYS);
    let fragment = insert_of(&other, &[Value::Text(b"x"), Value::Unchanged]);
    assert_eq!(router.route(fragment.get(0).unwrap(), &mut out), Ok(()));
    assert_eq!(out.as_is.len(), 1);
}

#[test]
fn an_update_without_its_old_row_is_an_error_and_no_guess() {
    use crate::words::{Cell, Change, FragmentParts, RowSpan};
    let (relation, mut router) = fan_out(3);
    let new = Some(RowSpan { first: 0, len: 2 });
    let change = Change { op: 0, operation: Operation::Update, relation: 0, old: None, new };
    let fragment = Fragment::from_parts(FragmentParts {
        relations: vec![Arc::clone(&relation)],
        changes: vec![change],
        cells: vec![Cell::NULL; 2],
        ..FragmentParts::default()
    });
    let error = router.route(fragment.get(0).unwrap(), &mut Routed::default()).unwrap_err();
    let text = "update of public.items came without its old row: set REPLICA IDENTITY FULL on it";
    assert_eq!(error.to_string(), text);
}

/// Shapes that select columns have indexes of their own, which look at the same rows.
#[test]
fn a_value_is_read_once_a_change_however_many_shapes_and_selections_ask_for_it() {
    let relation = relation(1, &[1, 2, 3, 3]);
    let mut router = Router::default();
    let mut slots = (0..).map(Slot::new);
    for bits in 0..1_usize << COLUMNS {
        for clause in ["c0 = 0", "c1 < 3", "c1 > 0 AND c1 % 2 = 1", "c1 + 1 = 2"] {
            let predicate = compile(&relation, Some(clause)).unwrap();
            let slot = slots.next().unwrap();
            router.insert(slot, 1, selection(bits).as_ref(), &predicate);
        }
    }
    let row = || [b"0", b"1", b"a", b"b"].map(|text| Value::Text(text));
    let mut builder = TransactionBuilder::new(1, Lsn::new(1));
    builder.insert(&relation, row()).unwrap();
    let fragment = builder.commit(Lsn::new(2));
    let (mut out, before) = (Routed::default(), READS.get());
    router.route(fragment.get(0).unwrap(), &mut out).unwrap();
    assert_eq!(self::slots(&out.as_is).len(), slots.next().unwrap().index());
    assert_eq!(READS.get() - before, 2, "one value of c0, and one of c1");
}
