//! Clauses that have no answer for a row: each ends its own shape, durably, with the error and its
//! place in the stream, and everybody else is served (C01, INV3).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use support::*;
use walfan::{
    Ack, Column, ConsumerSpec, Engine, Event, Handle, Lsn, Offset, Publisher, ReadError,
    ReadLimits, Relation, ShapeDefinition, TableName, TransactionBuilder, Value,
};

/// `public.things (id int8 primary key, kind text, tags int4[])`.
fn things() -> Arc<Relation> {
    let columns = vec![
        Column::new("id", 20, true),
        Column::new("kind", 25, false),
        Column::new("tags", 1007, false),
    ];
    Arc::new(Relation::new(16_400, TableName::new("public", "things"), columns))
}

/// Each with a row for which it has no answer, and what the error says of it.
const BAD: [(&str, [&str; 3], &str); 6] = [
    ("10 / (id - 3) > 0", ["3", "a", "{1}"], "division by zero"),
    (
        "CASE WHEN id = 4 THEN kind::int4 ELSE 0 END = 7",
        ["4", "seven", "{1}"],
        "invalid input for type integer: \"seven\"",
    ),
    (
        "tags @> '{1}'",
        ["5", "a", "{1,x}"],
        "the value of column 2 is no integer[] in the form that clauses read",
    ),
    ("id * 9223372036854775807 > 0", ["6", "a", "{1}"], "bigint out of range"),
    ("left(kind, 1) = 'x' OR 1 / (id % 7) = 3", ["7", "a", "{1}"], "division by zero"),
    ("kind = 'a' AND substring(kind, 1, id::int4) = 'a'", ["-8", "a", "{1}"], "negative substring"),
];

/// Of every way in which clauses are found; none of them has an error.
const GOOD: [&str; 7] = [
    "id > -1000",
    "kind <> ''",
    "id % 1000 < 1000",
    "kind LIKE '%' AND kind ILIKE '%'",
    "coalesce(length(kind), 0) % 7919 < 7919 + 0 * id",
    "id > -1000 OR 10 / (id - 3) > 0",
    "id < -1000 AND 10 / (id - 3) > 0",
];

struct World {
    dir: tempfile::TempDir,
    engine: Engine,
    publisher: Publisher,
    things: Arc<Relation>,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let (engine, publisher) = small().directory(dir.path()).start().unwrap();
        let things = things();
        engine.learn(Arc::clone(&things));
        World { dir, engine, publisher, things }
    }

    fn add(&self, clause: &str, spec: ConsumerSpec) -> Handle {
        let definition = ShapeDefinition::filtered(self.things.table.clone(), clause);
        self.engine.add_shape(definition, spec).unwrap()
    }

    /// A transaction of this row, between two that nothing is wrong with.
    fn publish(&mut self, commit: u64, row: [&str; 3]) {
        let mut transaction = TransactionBuilder::new(1, Lsn::new(commit));
        for row in [["1", "a", "{1}"], row, ["2", "b", "{2}"]] {
            let row = row.map(|text| Value::Text(text.as_bytes()));
            transaction.insert(&self.things, row).unwrap();
        }
        self.publisher.publish(transaction.commit(Lsn::new(commit + 1))).unwrap();
    }
}

fn is_invalidated(engine: &Engine, handle: Handle) -> bool {
    match engine.read(handle, Offset::ZERO, ReadLimits::default()) {
        Err(ReadError::Unknown { .. }) => true,
        Err(error) => panic!("{error}"),
        Ok(_) => false,
    }
}

#[test]
fn c01_a_clause_without_an_answer_ends_its_own_shape_and_nobody_else_s() {
    for (number, (clause, row, error)) in BAD.into_iter().enumerate() {
        let mut world = World::new();
        let mut bad = Vec::new();
        let mut good: Vec<(&str, Handle, Option<Seen>)> = Vec::new();
        for placement in PLACEMENTS {
            for ack in [Ack::Consumer, Ack::Log] {
                let spec = |seen: &Seen| recorder(placement, ack, seen, reports());
                bad.push(world.add(clause, spec(&Seen::default())));
                for clause in &GOOD[..6] {
                    let seen = Seen::default();
                    good.push((clause, world.add(clause, spec(&seen)), Some(seen)));
                }
            }
        }
        bad.push(world.add(clause, ConsumerSpec::Log));
        good.extend(GOOD.map(|clause| (clause, world.add(clause, ConsumerSpec::Log), None)));
        world.publish(10, row);
        world.publish(20, ["1", "a", "{1}"]);
        let last = Lsn::new(20);
        assert_eq!(world.engine.wait_flushed(last, LONG).unwrap(), last, "{clause}");
        // The second change of the first transaction.
        let at = Offset::new(Lsn::new(10), 2);
        let mut ended = Vec::new();
        for _ in &bad {
            let event = wait_for(&world.engine, |event| matches!(event, Event::Invalidated { .. }));
            let Event::Invalidated { handle, cause, .. } = event else { unreachable!("asked for") };
            assert!(cause.contains(error) && cause.contains(&at.to_string()), "{cause}");
            assert!(is_invalidated(&world.engine, handle), "{clause}");
            ended.push(handle);
        }
        ended.sort_unstable();
        bad.sort_unstable();
        assert_eq!(ended, bad, "{clause}");
        let rows = |clause: &str| if clause == GOOD[6] { 0 } else { 6 };
        for (clause, handle, seen) in &good {
            assert_eq!(log_of(&world.engine, *handle).len(), rows(clause), "{clause}");
            assert!(seen.as_ref().is_none_or(|seen| joined(seen).len() == 6), "{clause}");
        }
        let metrics = world.engine.metrics();
        assert_eq!(metrics.invalidated, bad.len() as u64, "{clause}");
        // It is in the log: opened again, it is the same.
        world.engine.shutdown(LONG).unwrap();
        let World { dir, engine, publisher, .. } = world;
        drop((engine, publisher));
        let (engine, _publisher) = small().directory(dir.path()).start().unwrap();
        let living: Vec<Handle> = engine.shapes().into_iter().map(|(handle, _)| handle).collect();
        let mut expected: Vec<Handle> = good.iter().map(|(_, handle, _)| *handle).collect();
        expected.sort_unstable();
        assert_eq!(living, expected, "clause {number}");
    }
}
