//! The oracle: generated clauses over generated rows, asked of a real Postgres and of this crate.
//! Where Postgres has an answer for a row, so must a clause that was taken, and the same one; where
//! Postgres has an error, a clause may have one too, or an answer if something else decides.
//!
//! `WALFAN_ORACLE_CLAUSES` says how many clauses, `WALFAN_ORACLE_SEED` with which seed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod generate;

use super::error::EvalError;
use super::{FullRow, Predicate, RowView, WhereError, compile};
use crate::cluster::{Cluster, Session};
use crate::words::{Column, Fragment, Lsn, Relation, TableName, TransactionBuilder, Value};
use generate::{Generator, TYPES};
use std::sync::Arc;

/// Clauses of a run, unless the environment says otherwise.
const CLAUSES: u64 = 1_500;
const SEED: u64 = 20_260_727;
const ROWS: usize = 40;

/// Clauses that once meant something else here than in Postgres.
const ONCE_WRONG: [&str; 17] = [
    "(vc_b)::char(2) <> (ta_a[1])::varchar(2)",
    "(- int8_b) = ('2.5'::numeric - 42)",
    "'a '::varchar = bp_a",
    "bp_a = 'a '::varchar(5) OR vc_a = 'a  '::char(3)",
    "'a '::varchar IN (bp_a, bp_b)",
    "NULLIF(bp_a, 'a '::varchar) IS NULL",
    "'a '::text = bp_a",
    "bp_a BETWEEN 'a '::varchar AND 'ab '::varchar",
    "'a  '::char(3) = ANY (ta_a) OR vc_a = 'a  '::char(3)",
    "(NULLIF(-7, COALESCE(-7, int8_a)) / abs(int8_a)) IS NULL",
    "'a' LIKE bp_a",
    "txt_a ILIKE bp_a",
    "txt_a ~ '^a '::char(5)",
    "ARRAY[bp_a] = '{a}'",
    "ARRAY[bp_a] < ARRAY['ab '::char(5)] OR ARRAY[bp_a, bp_b] IS DISTINCT FROM '{a,\"ab \"}'",
    "NOT ARRAY[bp_a, bp_b] IN ('{\"a \",b}', '{abc,a}')",
    "42 NOT BETWEEN int8_a / int8_b AND COALESCE(NULL, 3, int8_a % int2_a)",
];

/// Clauses that were refused once, and are to be taken.
const ONCE_REFUSED: [&str; 7] = [
    "moods_a @> '{ok}' OR mood_a = ANY (moods_b) OR moods_a[1] = 'sad'",
    "moods_a IS DISTINCT FROM ARRAY[mood_a, 'ok'] AND moods_b::text[] && '{happy,ok}'",
    "bps_a @> ARRAY['a '::char(3)] OR bps_b <@ '{a,\"ab \"}'",
    "bps_a && ARRAY[bp_a, 'a']",
    "GREATEST(bp_a, 'a ', bp_b) = 'a' OR LEAST(bp_a, 'ab ', bp_b) = 'ab  '",
    "octet_length(LEAST(bp_a, 'ab ')) = 5 AND octet_length(GREATEST('ab ', bp_a)) = 3",
    "GREATEST(bps_a, '{\"a \"}') = LEAST(bps_b, '{a}')",
];

/// Asks a clause of every row. An error of the clause itself is told from one of a row.
const PROBE: &str = "CREATE FUNCTION probe(clause text) RETURNS text LANGUAGE plpgsql AS $probe$
DECLARE answers text; answer boolean; row record;
BEGIN
  BEGIN
    EXECUTE format('SELECT string_agg(CASE WHEN (%s) THEN ''t'' ELSE ''f'' END, '''' ORDER BY n)
      FROM items', clause) INTO answers;
    RETURN answers;
  EXCEPTION
    WHEN syntax_error_or_access_rule_violation THEN RETURN 'refused: ' || SQLERRM;
    WHEN OTHERS THEN answers := '';
  END;
  FOR row IN SELECT n FROM items ORDER BY n LOOP
    BEGIN
      EXECUTE format('SELECT (%s) FROM items WHERE n = %s', clause, row.n) INTO answer;
      answers := answers || CASE WHEN answer THEN 't' ELSE 'f' END;
    EXCEPTION WHEN OTHERS THEN answers := answers || 'e';
    END;
  END LOOP;
  RETURN answers;
END $probe$";

struct World {
    session: Session,
    relation: Arc<Relation>,
    rows: Fragment,
    /// Declared last, so that the session ends first.
    _cluster: Cluster,
}

fn settings() -> (u64, u64) {
    let number = |name, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    };
    (number("WALFAN_ORACLE_SEED", SEED), number("WALFAN_ORACLE_CLAUSES", CLAUSES))
}

impl World {
    fn new(generator: &mut Generator) -> World {
        let cluster = Cluster::start(&["timezone=UTC", "fsync=off"]).unwrap();
        let mut session = cluster.session().unwrap();
        let columns: Vec<String> = TYPES
            .iter()
            .flat_map(|of| of.columns().map(|name| format!("{name} {}", of.sql)))
            .collect();
        session.run("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')").unwrap();
        session.run(&format!("CREATE TABLE items (n int, {})", columns.join(", "))).unwrap();
        session.run(PROBE).unwrap();
        for n in 0..ROWS {
            let values: Vec<String> = TYPES
                .iter()
                .flat_map(|of| of.columns().map(move |_| of))
                .map(|of| generator.value(of))
                .collect();
            let sql = format!("INSERT INTO items VALUES ({n}, {})", values.join(", "));
            session.run(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        let oids = "SELECT string_agg(atttypid::text, ',' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = 'items'::regclass AND attnum > 0";
        let oids = session.run(oids).unwrap();
        let names = TYPES.iter().flat_map(|of| of.columns());
        let names = std::iter::once("n".to_owned()).chain(names);
        let mood: u32 = session.run("SELECT 'mood'::regtype::oid").unwrap().parse().unwrap();
        let columns = names.zip(oids.split(',')).map(|(name, oid)| Column {
            enum_oid: name.starts_with("mood").then_some(mood),
            ..Column::new(&name, oid.parse().unwrap(), name == "n")
        });
        let relation = Relation::new(1, TableName::new("public", "items"), columns.collect());
        let relation = Arc::new(relation);
        let copied = session.run("COPY (SELECT * FROM items ORDER BY n) TO STDOUT").unwrap();
        let mut builder = TransactionBuilder::new(1, Lsn::new(1));
        for line in copied.lines() {
            let cells: Vec<Option<Vec<u8>>> = line.split('\t').map(unescaped).collect();
            let values = cells.iter().map(|cell| match cell {
                Some(text) => Value::Text(text),
                None => Value::Null,
            });
            builder.insert(&relation, values).unwrap();
        }
        let rows = builder.commit(Lsn::new(2));
        World { session, relation, rows, _cluster: cluster }
    }

    fn ours(&self, predicate: &Predicate) -> String {
        let answer = |result: Result<bool, EvalError>| match result {
            Ok(true) => 't',
            Ok(false) => 'f',
            Err(_) => 'e',
        };
        let rows = self.rows.changes().filter_map(|change| change.new_row());
        rows.map(|row| answer(predicate.matches(&RowView::new(FullRow::new(row, None))))).collect()
    }

    /// What is wrong with the answers for `clause`, if something is.
    fn disagreement(&mut self, clause: &str) -> Result<Option<String>, WhereError> {
        let predicate = compile(&self.relation, Some(clause))?;
        let ours = self.ours(&predicate);
        let theirs = self.session.run(&format!("SELECT probe($clause${clause}$clause$)")).unwrap();
        let decided = ["AND", "OR", "IN ("].iter().any(|word| clause.contains(word));
        let agrees = ours.len() == theirs.len()
            && ours
                .chars()
                .zip(theirs.chars())
                .all(|(ours, theirs)| ours == theirs || (theirs == 'e' && decided));
        Ok((!agrees)
            .then(|| format!("{clause}\n  postgres {theirs}\n  walfan   {ours}\n  {predicate:?}")))
    }
}

/// A field of COPY's text format.
fn unescaped(field: &str) -> Option<Vec<u8>> {
    if field == "\\N" {
        return None;
    }
    let mut text = Vec::new();
    let mut bytes = field.bytes();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(other) => other,
                None => b'\\',
            },
            byte => byte,
        });
    }
    Some(text)
}

/// Of so many generated clauses, one at least must be taken.
const TAKEN_PART: u64 = 2;

#[test]
fn clauses_mean_what_they_mean_to_postgres() {
    let (seed, clauses) = settings();
    let mut generator = Generator::new(seed);
    let mut world = World::new(&mut generator);
    let (mut taken, mut wrong) = (0, Vec::new());
    let mut refusals = std::collections::BTreeMap::new();
    let fixed = ONCE_WRONG.iter().chain(&ONCE_REFUSED).map(|clause| (*clause).to_owned());
    let generated = std::iter::repeat_with(|| generator.clause()).take(clauses as usize);
    for clause in fixed.chain(generated) {
        match world.disagreement(&clause) {
            Ok(found) => {
                taken += 1;
                wrong.extend(found);
            }
            Err(error) => {
                let text = error.to_string();
                if ONCE_REFUSED.contains(&&*clause) {
                    wrong.push(format!("{clause}: {text}"));
                }
                let key = text.split(" at ").next().unwrap_or_default().to_owned();
                *refusals.entry(key).or_insert(0) += 1;
            }
        }
    }
    println!("seed {seed}: {taken} of {clauses} clauses taken, refused: {refusals:#?}");
    assert!(
        wrong.is_empty(),
        "seed {seed}: {} of {taken} clauses disagree:\n{}",
        wrong.len(),
        wrong.iter().take(25).cloned().collect::<Vec<_>>().join("\n"),
    );
    assert!(taken * TAKEN_PART >= clauses, "seed {seed}: only {taken} of {clauses} were taken");
}
