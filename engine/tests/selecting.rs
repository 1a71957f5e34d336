//! Selecting: shapes that select columns, in both replica modes, on a table whose rows enter, leave
//! and change their key. What consumers of every placement are told, and what logs hold, also after
//! a reopen, is what a plain model says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use support::*;
use walfan::{
    Ack, AddError, Column, ColumnValue, ColumnsError, ConsumerSpec, Engine, Handle, Lsn, Offset,
    Operation, Publisher, ReadLimits, Relation, Replica, ShapeDefinition, Start, Started,
    TableName, TransactionBuilder, Value,
};

const COLUMNS: [(&str, u32, bool); 5] = [
    ("kind", 25, false),
    ("id", 20, true),
    ("size", 23, false),
    ("Note", 25, false),
    ("part", 23, true),
];

fn things() -> Arc<Relation> {
    let columns = COLUMNS.map(|(name, of, key)| Column::new(name, of, key)).to_vec();
    Arc::new(Relation::new(7, TableName::new("public", "things"), columns))
}

/// A value's text; none is NULL.
type Cell = Option<&'static str>;
type Row = [Cell; COLUMNS.len()];

/// What the values of each column are, in the order of `COLUMNS`.
const CELLS: [&[Cell]; COLUMNS.len()] = [
    &[Some("a"), Some("b"), None],
    &[Some("1"), Some("2")],
    &[Some("1"), Some("2"), Some("3"), None],
    &[Some(""), Some("long"), None],
    &[Some("1"), Some("2")],
];

fn row() -> impl Strategy<Value = Row> {
    let picks = CELLS.map(prop::sample::select);
    let [a, b, c, d, e] = picks;
    (a, b, c, d, e).prop_map(|(a, b, c, d, e)| [a, b, c, d, e])
}

#[derive(Clone, Debug)]
enum Change {
    Insert(Row),
    Delete(Row),
    /// Old row, new row, which columns keep their value, and whether such a value is then unsent.
    Update(Row, Row, [bool; COLUMNS.len()], bool),
}

fn change() -> impl Strategy<Value = Change> {
    let kept = prop::array::uniform5(prop::bool::weighted(0.6));
    prop_oneof![
        1 => row().prop_map(Change::Insert),
        1 => row().prop_map(Change::Delete),
        6 => (row(), row(), kept, any::<bool>())
            .prop_map(|(old, new, kept, unsent)| Change::Update(old, new, kept, unsent)),
    ]
}

/// A clause, its parameters, and whether a row fulfils it.
type Clause = (&'static str, &'static [Cell], fn(&Row) -> bool);

const CLAUSES: [Clause; 4] = [
    ("", &[], |_| true),
    ("kind = 'a'", &[], |row| row[0] == Some("a")),
    ("size < $2 AND kind <> $1", &[Some("c"), Some("3")], |row| {
        row[0].is_some() && row[2].is_some_and(|size| size < "3")
    }),
    ("\"Note\" = $1 OR things.ID = 2", &[Some("long")], |row| {
        row[3] == Some("long") || row[1] == Some("2")
    }),
];

/// An index of `CLAUSES`, the bits of the columns that are selected (none: no list), replica mode.
type Plan = (usize, usize, bool);

fn definition((clause, bits, full): Plan) -> ShapeDefinition {
    let table = things().table.clone();
    let (text, params, _) = CLAUSES[clause];
    let definition = match text {
        "" => ShapeDefinition::table(table),
        text => ShapeDefinition::filtered(table, text).with_params(params.iter().copied()),
    };
    let definition = match bits {
        0 => definition,
        // In another order than the table's.
        bits => definition
            .with_columns((0..COLUMNS.len()).rev().filter(|i| bits >> i & 1 == 1).map(name)),
    };
    definition.with_replica(if full { Replica::Full } else { Replica::Default })
}

fn name(column: usize) -> &'static str {
    COLUMNS[column].0
}

/// What one change says of one column: its index, its value, and its value before.
type Word = (usize, Option<String>, Option<Option<String>>);
type Told = BTreeMap<Offset, (Operation, Vec<Word>)>;

fn words<'a>(values: impl Iterator<Item = ColumnValue<'a>>) -> Vec<Word> {
    let text = |value: Value<'_>| match value {
        Value::Null => None,
        Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        Value::Unchanged => panic!("a value is not there"),
    };
    let word = |value: ColumnValue<'a>| {
        assert_eq!(&*value.column.name, name(value.index));
        (value.index, text(value.value), value.before.map(text))
    };
    values.map(word).collect()
}

/// The plain model: what the shape is told of the rows `old` and `new` at op `op`.
fn model(plan: Plan, old: Option<Row>, new: Option<Row>, at: Offset, told: &mut Told) {
    let (clause, bits, full) = plan;
    let keys = |row: Row| [row[1], row[4]];
    if let (Some(before), Some(after)) = (old, new)
        && keys(before) != keys(after)
    {
        model(plan, old, None, at, told);
        return model(plan, None, new, Offset::new(at.commit, at.op + 1), told);
    }
    let is_in = |row: &Row| CLAUSES[clause].2(row);
    let (old, new) = (old.filter(is_in), new.filter(is_in));
    let is_key = |column: usize| COLUMNS[column].2;
    let selected = |column: &usize| bits == 0 || bits >> column & 1 == 1 || is_key(*column);
    let selected: Vec<usize> = (0..COLUMNS.len()).filter(selected).collect();
    let word = |row: Row, column: usize| (column, row[column].map(str::to_owned), None);
    let (operation, words) = match (old, new) {
        (None, None) => return,
        (None, Some(new)) => {
            (Operation::Insert, selected.iter().map(|&column| word(new, column)).collect())
        }
        (Some(old), None) => {
            let said = selected.iter().filter(|&&column| full || is_key(column));
            (Operation::Delete, said.map(|&column| word(old, column)).collect::<Vec<_>>())
        }
        (Some(old), Some(new)) => {
            let changed = |column: usize| old[column] != new[column];
            if !selected.iter().any(|&column| changed(column)) {
                return;
            }
            let said = selected.iter().filter(|&&c| full || is_key(c) || changed(c));
            let words = said.map(|&column| {
                let before = (full && changed(column)).then(|| old[column].map(str::to_owned));
                (column, new[column].map(str::to_owned), before)
            });
            (Operation::Update, words.collect())
        }
    };
    told.insert(at, (operation, words));
}

type Seeing = Arc<Mutex<Told>>;

fn seeing(placement: Placement, told: &Seeing) -> ConsumerSpec {
    let told = Arc::clone(told);
    let factory = move |start: &Start<'_>| {
        let told = Arc::clone(&told);
        let script: Script = Arc::new(move |delivery, _| {
            if let Some(operation) = delivery.operation() {
                let said = (operation, words(delivery.selected()));
                let before = told.lock().unwrap().insert(delivery.offset(), said.clone());
                assert!(before.is_none_or(|before| before == said));
            }
            Ok(Report::Yes)
        });
        Ok(Started::new(recording(&Seen::default(), script), start.resume()))
    };
    placed(placement, Ack::Consumer, factory)
}

struct Shape {
    plan: Plan,
    expected: Told,
    /// By handle: the log's, and what consumers of each placement were told.
    log: Handle,
    told: [(Handle, Seeing); 2],
}

struct World {
    dir: tempfile::TempDir,
    things: Arc<Relation>,
    shapes: Vec<Shape>,
    commit: u64,
}

impl World {
    fn start(&self) -> (Engine, Publisher) {
        let told: BTreeMap<Handle, (Placement, Seeing)> = self
            .shapes
            .iter()
            .flat_map(|shape| PLACEMENTS.into_iter().zip(&shape.told))
            .map(|(placement, (handle, told))| (*handle, (placement, Arc::clone(told))))
            .collect();
        let find = move |handle: Handle, _: &ShapeDefinition| match told.get(&handle) {
            Some((placement, told)) => seeing(*placement, told),
            None => ConsumerSpec::Log,
        };
        let (engine, publisher) =
            small().directory(self.dir.path()).consumers(find).start().unwrap();
        engine.learn(Arc::clone(&self.things));
        (engine, publisher)
    }

    fn add(&mut self, engine: &Engine, plans: &[Plan]) {
        let mut specs = Vec::new();
        let mut tell = |plan: Plan, placement| {
            let told = Seeing::default();
            specs.push((definition(plan), seeing(placement, &told)));
            told
        };
        let told: Vec<_> = plans.iter().map(|&plan| PLACEMENTS.map(|at| tell(plan, at))).collect();
        specs.extend(plans.iter().map(|&plan| (definition(plan), ConsumerSpec::Log)));
        let handles = engine.add_shapes(specs).unwrap();
        let (with_consumer, logs) = handles.split_at(2 * plans.len());
        for (((plan, told), by_placement), log) in
            plans.iter().zip(told).zip(with_consumer.chunks(2)).zip(logs)
        {
            let [mailbox, inline] = told;
            let told = [(by_placement[0], mailbox), (by_placement[1], inline)];
            self.shapes.push(Shape { plan: *plan, expected: Told::new(), log: *log, told });
        }
    }

    fn publish(&mut self, publisher: &mut Publisher, changes: &[Change]) {
        self.commit += 1;
        let commit = Lsn::new(self.commit);
        let mut transaction = TransactionBuilder::new(1, commit);
        for (index, change) in changes.iter().enumerate() {
            let at = Offset::new(commit, 2 * index as u64);
            let (old, new) = self.build(&mut transaction, change);
            for shape in &mut self.shapes {
                model(shape.plan, old, new, at, &mut shape.expected);
            }
        }
        publisher.publish(transaction.commit(Lsn::new(self.commit + 1))).unwrap();
    }

    fn build(&self, to: &mut TransactionBuilder, change: &Change) -> (Option<Row>, Option<Row>) {
        let value = |cell: Cell| cell.map_or(Value::Null, |text| Value::Text(text.as_bytes()));
        match change {
            Change::Insert(new) => {
                to.insert(&self.things, new.map(value)).unwrap();
                (None, Some(*new))
            }
            Change::Delete(old) => {
                to.delete(&self.things, old.map(value)).unwrap();
                (Some(*old), None)
            }
            Change::Update(old, new, kept, unsent) => {
                let after: Row = std::array::from_fn(|i| if kept[i] { old[i] } else { new[i] });
                let sent = (0..COLUMNS.len()).map(|i| match kept[i] && *unsent {
                    true => Value::Unchanged,
                    false => value(after[i]),
                });
                to.update(&self.things, old.map(value), sent).unwrap();
                (Some(*old), Some(after))
            }
        }
    }

    fn check(&self, engine: &Engine) {
        let last = Lsn::new(self.commit);
        assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
        for shape in &self.shapes {
            for (_, told) in &shape.told {
                assert_eq!(*told.lock().unwrap(), shape.expected, "{:?}", shape.plan);
            }
        }
        self.check_logs(engine);
    }

    fn check_logs(&self, engine: &Engine) {
        for shape in &self.shapes {
            let handles = shape.told.iter().map(|(handle, _)| *handle);
            for handle in handles.chain([shape.log]) {
                assert_eq!(read(engine, handle), shape.expected, "{:?}", shape.plan);
            }
        }
    }
}

fn read(engine: &Engine, handle: Handle) -> Told {
    let (mut told, mut after) = (Told::new(), Offset::ZERO);
    loop {
        let page = engine.read(handle, after, ReadLimits::default()).unwrap();
        for change in &page.changes {
            let said = (change.operation(), words(change.selected()));
            assert_eq!(told.insert(change.offset(), said), None);
        }
        after = page.through;
        if page.up_to_date {
            return told;
        }
    }
}

fn transactions() -> impl Strategy<Value = Vec<Vec<Change>>> {
    prop::collection::vec(prop::collection::vec(change(), 1..6), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..Default::default()
    })]
    #[test]
    fn what_shapes_are_told_is_what_a_plain_model_says(
        plans in prop::collection::vec(
            (0..CLAUSES.len(), 0..1_usize << COLUMNS.len(), any::<bool>()), 1..12),
        late in (0..CLAUSES.len(), 0..1_usize << COLUMNS.len(), any::<bool>()),
        lives in prop::array::uniform3(transactions()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World { dir, things: things(), shapes: Vec::new(), commit: 0 };
        for (life, transactions) in lives.iter().enumerate() {
            let (engine, mut publisher) = world.start();
            if life == 0 {
                world.add(&engine, &plans);
            }
            world.check(&engine);
            transactions.iter().for_each(|changes| world.publish(&mut publisher, changes));
            world.check(&engine);
            if life == 1 {
                world.add(&engine, &[late]);
            }
            // As a source does that does not send it again.
            engine.raise_floor(Lsn::new(world.commit + 1)).unwrap();
            engine.shutdown(LONG).unwrap();
        }
    }
}

#[test]
fn lists_of_columns_that_say_nothing_are_refused_with_their_place() {
    let (engine, _publisher) = small().start().unwrap();
    let keyless = Relation::new(
        8,
        TableName::new("public", "keyless"),
        items()
            .columns
            .iter()
            .map(|column| Column::new(&column.name, column.type_oid, false))
            .collect(),
    );
    let tables = [things(), Arc::new(keyless)];
    tables.iter().for_each(|table| engine.learn(Arc::clone(table)));
    let refused = |table: &Relation, names: &[&str]| {
        let definition = ShapeDefinition::table(table.table.clone());
        let definition = definition.with_columns(names.iter().copied());
        let error = engine.add_shape(definition.clone(), ConsumerSpec::Log).unwrap_err();
        let AddError::Columns { definition: named, source } = error else { panic!("{error}") };
        assert_eq!(named, definition.to_string());
        source
    };
    let [things, keyless] = tables;
    let table = things.table.clone();
    assert_eq!(refused(&things, &[]), ColumnsError::Empty { table: table.clone() });
    let column = || "note".into();
    let unknown = ColumnsError::Unknown { column: column(), position: 2, table };
    assert_eq!(refused(&things, &["kind", "note", "size"]), unknown);
    let (column, position, first) = ("size".into(), 3, 1);
    let duplicate = ColumnsError::Duplicate { column, position, first };
    assert_eq!(refused(&things, &["size", "id", "size"]), duplicate);
    let none = ColumnsError::NoKey { table: keyless.table.clone() };
    assert_eq!(refused(&keyless, &["kind"]), none);
    assert_eq!(engine.shapes(), []);
}

/// What a directory's definitions say is what they said; spellings have one canonical text.
#[test]
fn definitions_come_back_and_have_one_text_for_all_their_spellings() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let (engine, publisher) = small().directory(dir.path()).start().unwrap();
        engine.learn(things());
        (engine, publisher)
    };
    let of = |clause: &str| ShapeDefinition::filtered(things().table.clone(), clause);
    let definitions = [
        of("\"Note\" LIKE $1 AND size IN ($2, 3)")
            .with_params([Some("a%"), None])
            .with_columns(["Note", "kind"])
            .with_replica(Replica::Full),
        of("\"Note\" like 'a%' and (Size in (null,3))")
            .with_columns(["part", "kind", "Note"])
            .with_replica(Replica::Full),
    ];
    let (engine, publisher) = start();
    let added = definitions.clone().map(|definition| (definition, ConsumerSpec::Log));
    let handles = engine.add_shapes(added.into()).unwrap();
    engine.shutdown(LONG).unwrap();
    drop((engine, publisher));
    let (engine, _publisher) = start();
    let found = engine.shapes();
    for (((handle, found), added), definition) in found.iter().zip(&handles).zip(&definitions) {
        assert_eq!((handle, &**found), (added, definition));
        let text = "\"public\".\"things\" (\"kind\", \"id\", \"Note\", \"part\") replica full \
                    where ((\"Note\" like 'a%') and (\"size\" in (null, 3)))";
        assert_eq!(engine.canonical(definition).unwrap(), text);
    }
    assert_eq!(found.len(), definitions.len());
    let whole = ShapeDefinition::table(things().table.clone());
    let all = whole.clone().with_columns(COLUMNS.map(|(name, ..)| name));
    let texts = [whole, all, of("1 = 1")].map(|definition| engine.canonical(&definition).unwrap());
    assert_eq!(texts, ["\"public\".\"things\""; 3]);
    let wrong = of("size = $1").with_params([Some("x")]);
    assert!(matches!(engine.canonical(&wrong), Err(AddError::Where { .. })));
}
