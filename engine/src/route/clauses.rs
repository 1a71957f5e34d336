//! Tests of clauses in the index: what is routed is what each clause by itself says, and few
//! clauses are asked.

use super::*;
use crate::predicate::{RowView, compile};
use crate::words::{Column, Form, Fragment, Lsn, Relation, TransactionBuilder, Value};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Columns with what their rows hold; the last of each is NULL.
const COLUMNS: [(&str, u32, &[&str]); 8] = [
    ("a", 23, &["0", "1", "2", "3"]),
    ("b", 20, &["0", "5", "10", "-7"]),
    ("price", 1700, &["0.5", "1.00", "7", "99.9", "NaN"]),
    ("name", 25, &["", "abc", "ABC", "abd", "xyz", "ab"]),
    ("email", 1043, &["A@x", "a@x", "b@y"]),
    ("tags", 1009, &["{}", "{a}", "{a,b}", "{b,c,NULL}"]),
    ("gone", 1114, &["2024-01-01 00:00:00"]),
    ("flag", 16, &["t", "f"]),
];

/// Conditions: with a place for a number where there is a `#`.
const CONDITIONS: [&str; 34] = [
    "a = #",
    "a IN (#, 3)",
    "b = #",
    "price < #",
    "price <= #.5",
    "price >= #",
    "price > #",
    "price BETWEEN # AND 7",
    "price > # AND price < 50",
    "a < # AND b >= 0",
    "name LIKE 'a%'",
    "name LIKE 'ab_'",
    "name ILIKE 'ab%'",
    "name ILIKE 'Abc'",
    "name LIKE '%b%'",
    "lower(email) = 'a@x'",
    "lower(email) IN ('b@y', 'a@x')",
    "tags @> ARRAY['a']",
    "tags @> ARRAY['a', 'b']",
    "tags && ARRAY['b', 'c']",
    "tags @> '{}'",
    "'a' = ANY (tags)",
    "gone IS NULL",
    "gone IS NOT NULL",
    "flag",
    "flag IS NOT TRUE",
    "name <> 'abc'",
    "a <> #",
    "b / a = #",
    "b % # > 0",
    "a IS NOT DISTINCT FROM NULL",
    "length(name) % 3 = # + 0 * b",
    "a + b > #",
    "a = b",
];

fn relation() -> Arc<Relation> {
    let column = |(name, oid, _): &(&str, u32, &[&str])| Column::new(name, *oid, false);
    let columns = COLUMNS.iter().map(column).collect();
    Arc::new(Relation::new(1, TableName::new("public", "items"), columns))
}

fn row(picks: &[usize]) -> Vec<Value<'static>> {
    let value = |((_, _, texts), pick): (&(&str, u32, &'static [&'static str]), &usize)| {
        texts.get(pick % (texts.len() + 1)).map_or(Value::Null, |text| Value::Text(text.as_bytes()))
    };
    COLUMNS.iter().zip(picks).map(value).collect()
}

/// A clause of conditions, joined at random.
#[derive(Clone, Debug)]
enum Tree {
    Condition(usize, u32),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
    Not(Box<Tree>),
}

impl Tree {
    fn text(&self) -> String {
        match self {
            Tree::Condition(index, number) => CONDITIONS[*index].replace('#', &number.to_string()),
            Tree::And(a, b) => format!("({}) AND ({})", a.text(), b.text()),
            Tree::Or(a, b) => format!("({}) OR ({})", a.text(), b.text()),
            Tree::Not(a) => format!("NOT ({})", a.text()),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf =
        (0..CONDITIONS.len(), 1..6_u32).prop_map(|(index, number)| Tree::Condition(index, number));
    leaf.prop_recursive(3, 8, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            4 => two().prop_map(|(a, b)| Tree::And(Box::new(a), Box::new(b))),
            2 => two().prop_map(|(a, b)| Tree::Or(Box::new(a), Box::new(b))),
            1 => inner.clone().prop_map(|a| Tree::Not(Box::new(a))),
        ]
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// So many shapes of one clause.
    Add(Tree, usize),
    Remove(usize, usize),
    Insert(Vec<usize>),
    Delete(Vec<usize>),
    Update(Vec<usize>, Vec<usize>, Vec<bool>),
}

fn step() -> impl Strategy<Value = Step> {
    let row = || prop::collection::vec(0..35_usize, COLUMNS.len());
    let kept = prop::collection::vec(prop::bool::weighted(0.5), COLUMNS.len());
    let many = prop_oneof![8 => Just(1_usize), 1 => Just(40_usize)];
    prop_oneof![
        6 => (tree(), many).prop_map(|(tree, many)| Step::Add(tree, many)),
        1 => (1..5_usize, 0..5_usize).prop_map(|(by, at)| Step::Remove(by, at % by)),
        3 => row().prop_map(Step::Insert),
        1 => row().prop_map(Step::Delete),
        4 => (row(), row(), kept).prop_map(|(old, new, kept)| Step::Update(old, new, kept)),
    ]
}

struct World {
    relation: Arc<Relation>,
    router: Router,
    shapes: BTreeMap<Slot, Predicate>,
    next_slot: u32,
}

/// What each clause by itself says: as what the change reaches it; who has no answer.
#[derive(Debug, Default, PartialEq)]
struct Answers {
    forms: BTreeMap<Slot, Form>,
    failed: BTreeSet<Slot>,
}

fn unchanged(change: ChangeRef<'_>) -> bool {
    let (old, new) = (change.old_row().unwrap(), change.new_row().unwrap());
    old.values().zip(new.values()).all(|(old, new)| new == Value::Unchanged || new == old)
}

fn slots(targets: &Targets) -> Vec<Slot> {
    let mut slots = Vec::new();
    targets.for_each(|slot| slots.push(slot));
    slots
}

impl World {
    fn new() -> World {
        let (router, shapes) = (Router::default(), BTreeMap::new());
        World { relation: relation(), router, shapes, next_slot: 0 }
    }

    fn add(&mut self, clause: &str, many: usize) {
        let Ok(predicate) = compile(&self.relation, Some(clause)) else { return };
        for _ in 0..many {
            let slot = Slot::new(self.next_slot);
            self.next_slot += 1;
            self.router.insert(slot, 1, None, &predicate);
            self.shapes.insert(slot, predicate.clone());
        }
    }

    fn remove(&mut self, by: usize, at: usize) {
        let slots: Vec<Slot> = self.shapes.keys().copied().skip(at).step_by(by).collect();
        for slot in slots {
            let predicate = self.shapes.remove(&slot).unwrap();
            self.router.remove(slot, 1, None, &predicate);
            self.router.remove(slot, 1, None, &predicate);
        }
    }

    fn change(&self, step: &Step) -> Fragment {
        let mut builder = TransactionBuilder::new(1, Lsn::new(1));
        match step {
            Step::Insert(new) => builder.insert(&self.relation, row(new)).unwrap(),
            Step::Delete(old) => builder.delete(&self.relation, row(old)).unwrap(),
            Step::Update(old, new, kept) => {
                let (old, new) = (row(old), row(new));
                // Half of the values stay as they are, some of them unsent.
                let value = |index: usize| match (kept[index], index % 2) {
                    (true, 0) => Value::Unchanged,
                    (true, _) => old[index],
                    (false, _) => new[index],
                };
                let new: Vec<_> = (0..COLUMNS.len()).map(value).collect();
                builder.update(&self.relation, old, new).unwrap();
            }
            Step::Add(..) | Step::Remove(..) => unreachable!("no change"),
        }
        builder.commit(Lsn::new(2))
    }

    fn oracle(&self, change: ChangeRef<'_>) -> Answers {
        let mut answers = Answers::default();
        for (slot, predicate) in &self.shapes {
            let matches = |row, before| predicate.matches(&RowView::new(FullRow::new(row, before)));
            let old = change.old_row().map(|row| matches(row, None)).transpose();
            let new = change.new_row().map(|row| matches(row, change.old_row())).transpose();
            let (Ok(old), Ok(new)) = (old, new) else {
                answers.failed.insert(*slot);
                continue;
            };
            let form = match (change.operation(), old, new) {
                (Operation::Update, Some(true), Some(false)) => Form::Delete,
                (Operation::Update, Some(false), Some(true)) => Form::Insert,
                // Nothing changed: nothing to tell.
                (Operation::Update, ..) if unchanged(change) => continue,
                (_, old, new) if old != Some(false) && new != Some(false) => Form::AsIs,
                _ => continue,
            };
            answers.forms.insert(*slot, form);
        }
        answers
    }

    fn routed(&mut self, change: ChangeRef<'_>) -> Answers {
        let mut out = Routed::default();
        self.router.route(change, &mut out).unwrap();
        let failed: BTreeSet<Slot> =
            self.router.take_failed().into_iter().map(|(slot, _)| slot).collect();
        let mut forms = BTreeMap::new();
        for (form, targets) in out.forms() {
            assert!(targets.slots.is_sorted_by(|a, b| a < b), "{targets:?}");
            let single =
                |slot: &Slot| targets.sets.iter().all(|set| !set.slots.contains(slot.as_u32()));
            assert!(targets.slots.iter().all(single), "{targets:?}");
            for slot in slots(targets) {
                // Of who failed, nothing else is said.
                if !failed.contains(&slot) {
                    assert_eq!(forms.insert(slot, form), None, "{slot} twice: {out:?}");
                }
            }
        }
        Answers { forms, failed }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Add(tree, many) => self.add(&tree.text(), *many),
            Step::Remove(by, at) => self.remove(*by, *at),
            step => {
                let fragment = self.change(step);
                let change = fragment.get(0).unwrap();
                let (routed, expected) = (self.routed(change), self.oracle(change));
                assert_eq!(routed, expected, "{:?}", self.shapes);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_routed_is_what_each_clause_by_itself_says(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        // Nothing stays behind.
        world.remove(1, 0);
        prop_assert!(world.router.tables.is_empty());
    }
}

/// An error that nothing decides over.
type Unknown = ();

/// What a tree is for a row by the rules that ARCHITECTURE.md gives (section 6, Containment), from
/// the values of its conditions alone.
struct Model<'w, 'a> {
    world: &'w World,
    row: FullRow<'a>,
}

impl Model<'_, '_> {
    fn holds(&self, tree: &Tree) -> Result<bool, Unknown> {
        let (a, b, decides) = match tree {
            Tree::And(a, b) => (a, b, false),
            Tree::Or(a, b) => (a, b, true),
            tree => return Ok(self.value(tree)? == Some(true)),
        };
        match (self.holds(a), self.holds(b)) {
            (Ok(value), _) | (_, Ok(value)) if value == decides => Ok(decides),
            (Ok(_), Ok(_)) => Ok(!decides),
            _ => Err(()),
        }
    }

    /// From left to right.
    fn value(&self, tree: &Tree) -> Result<Option<bool>, Unknown> {
        let (a, b, decides) = match tree {
            Tree::And(a, b) => (a, b, false),
            Tree::Or(a, b) => (a, b, true),
            Tree::Not(a) => return Ok(self.value(a)?.map(|value| !value)),
            Tree::Condition(..) => return self.condition(&tree.text()),
        };
        let a = self.value(a)?;
        if a == Some(decides) {
            return Ok(a);
        }
        let b = self.value(b)?;
        Ok(if b == Some(decides) { b } else { a.and(b) })
    }

    fn condition(&self, text: &str) -> Result<Option<bool>, Unknown> {
        let is_true = |text: &str| {
            let predicate = compile(&self.world.relation, Some(text)).unwrap();
            predicate.matches(&RowView::new(self.row)).map_err(|_| ())
        };
        let (yes, no) = (is_true(text)?, is_true(&format!("NOT ({text})"))?);
        Ok((yes || no).then_some(yes))
    }
}

proptest! {
    #[test]
    fn a_clause_says_what_its_conditions_say(
        tree in tree(),
        picks in prop::collection::vec(0..35_usize, COLUMNS.len()),
    ) {
        let world = World::new();
        let fragment = world.change(&Step::Insert(picks));
        let row = FullRow::new(fragment.get(0).unwrap().new_row().unwrap(), None);
        let predicate = compile(&world.relation, Some(&tree.text())).unwrap();
        let answer = predicate.matches(&RowView::new(row)).map_err(|_| ());
        prop_assert_eq!(answer, Model { world: &world, row }.holds(&tree), "{}", tree.text());
    }
}

/// Clauses that differ in their constants: few of so many may be asked, whatever a row holds.
#[test]
fn c04_c05_few_clauses_are_asked() {
    for (clause, matches, asked_max) in [
        ("a = 1 AND name LIKE '%b%' AND b = #", 1, 1),
        ("a IN (1, 2, 3) AND gone IS NULL AND b = #", 1, 0),
        ("(b = # OR lower(email) = 'n#') AND name LIKE '%b%'", 1, 1),
        ("lower(email) = 'n#' OR b = #", 1, 0),
        ("price < #", 489, 0),
        ("price BETWEEN # AND # + 10", 10, 0),
        ("name LIKE 'ab#%'", 0, 0),
        ("name ILIKE 'AB#%' AND a = 1", 0, 0),
        ("tags @> ARRAY['n#']", 0, 0),
        ("tags @> ARRAY['a', 'n#'] AND b = #", 0, 1),
        ("flag AND price >= #", 11, 0),
        ("price < # AND a <> 1", 0, 489),
    ] {
        let mut world = World::new();
        for number in 0..500 {
            world.add(&clause.replace('#', &number.to_string()), 1);
        }
        assert_eq!(world.shapes.len(), 500, "{clause}");
        let texts = ["1", "250", "10.5", "xabcx", "A@x", "{a,b}", "", "t"];
        let values = texts.map(|text| match text {
            "" => Value::Null,
            text => Value::Text(text.as_bytes()),
        });
        let mut builder = TransactionBuilder::new(1, Lsn::new(1));
        builder.insert(&world.relation, values).unwrap();
        let fragment = builder.commit(Lsn::new(2));
        let change = fragment.get(0).unwrap();
        let before = world.router.evaluations();
        let routed = world.routed(change);
        assert_eq!(routed, world.oracle(change), "{clause}");
        assert_eq!(routed.forms.len(), matches, "{clause}");
        assert!(world.router.evaluations() - before <= asked_max, "{clause}");
    }
}

#[test]
fn half_of_many_shapes_are_few_sets() {
    let mut world = World::new();
    // Not in the order of their constants.
    for number in 0..20_000_u64 {
        world.add(&format!("price < {}", number * 7_919 % 20_000), 1);
    }
    let mut builder = TransactionBuilder::new(1, Lsn::new(1));
    let null = Value::Null;
    let price = Value::Text(b"9999.5");
    builder.insert(&world.relation, [null, null, price, null, null, null, null, null]).unwrap();
    let fragment = builder.commit(Lsn::new(2));
    let mut out = Routed::default();
    world.router.route(fragment.get(0).unwrap(), &mut out).unwrap();
    assert_eq!(out.as_is.len(), 10_000);
    assert!(out.as_is.sets.len() < 128, "{}", out.as_is.sets.len());
    assert!(out.as_is.slots.len() < 128, "{}", out.as_is.slots.len());
}

/// What an index does not look at is not asked; it must not count in the clause by itself either.
#[test]
fn what_decides_wins_over_an_error_at_any_depth() {
    for (clause, fails) in [
        ("a = 0 AND (b > 5 OR (tags @> ARRAY['a'] AND b / a = 1))", false),
        ("a = 0 AND (b > 5 OR (b / a = 1 AND tags @> ARRAY['a']))", false),
        ("a = 0 AND (b / a = 1 OR (a = 1 AND tags @> ARRAY['a']))", true),
        ("a = 0 AND (b / a = 1 OR (a = 0 AND tags IS NULL))", false),
        ("a = 0 AND NOT (b / a = 1 OR a = 0)", true),
        ("a = 0 AND NOT (a = 0 OR b / a = 1)", false),
        ("a = 0 AND NOT (b / a = 1 AND 5 <= coalesce(NULL, 3, b))", false),
    ] {
        let mut world = World::new();
        world.add(clause, 1);
        let null = COLUMNS.map(|(name, ..)| if name == "tags" { 4 } else { 0 });
        let fragment = world.change(&Step::Insert(null.to_vec()));
        let change = fragment.get(0).unwrap();
        let routed = world.routed(change);
        assert_eq!(routed.failed.len(), usize::from(fails), "{clause}");
        assert_eq!(routed, world.oracle(change), "{clause}");
    }
}

#[test]
fn a_clause_that_fails_fails_alone() {
    let mut world = World::new();
    for clause in
        ["b / a = 5", "a = 0", "a = 0 AND 1 / a = 1", "a = 0 OR 1 / a = 1", "a = 1 AND 1 / a = 1"]
    {
        world.add(clause, 1);
    }
    let fragment = world.change(&Step::Insert(vec![0; COLUMNS.len()]));
    let change = fragment.get(0).unwrap();
    let answers = world.routed(change);
    let numbers = |slots: Vec<Slot>| slots.iter().map(|slot| slot.as_u32()).collect::<Vec<_>>();
    assert_eq!(numbers(answers.failed.into_iter().collect()), [0, 2]);
    assert_eq!(numbers(answers.forms.into_keys().collect()), [1, 3]);
    let mut out = Routed::default();
    world.router.route(change, &mut out).unwrap();
    let errors = world.router.take_failed();
    assert!(errors.iter().all(|(_, error)| error.to_string() == "division by zero"), "{errors:?}");
}
