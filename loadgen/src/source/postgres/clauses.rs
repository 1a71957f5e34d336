//! Clauses: asks the server which rows of the table match a shape's clause, and compares with what
//! the oracle says that the shape was to get.

use super::connection::{Connection, parsed};
use super::error::PostgresFailure;
use crate::progress::Progress;
use crate::verify::{Findings, Oracle};
use crate::workload::{Workload, mix};

/// Shapes whose clause is asked; each question reads the whole table.
const SAMPLE: u32 = 100;
const WHAT: &str = "count the rows of a shape";

/// Checks a random sample of the shapes; how many.
pub(super) fn check(
    connection: &mut Connection,
    workload: &Workload,
    oracle: &Oracle,
    seed: u64,
    progress: &Progress,
    findings: &mut Findings,
) -> Result<u64, PostgresFailure> {
    let asked = SAMPLE.min(workload.shapes);
    progress.phase("asking the server", asked.into());
    let mut draw = mix(seed ^ 0xC1A5);
    for question in 0..asked {
        draw = mix(draw);
        let shape = (draw >> 16) % u64::from(workload.shapes);
        check_shape(connection, workload, oracle, shape as u32, findings)?;
        progress.at(u64::from(question) + 1);
    }
    Ok(asked.into())
}

fn check_shape(
    connection: &mut Connection,
    workload: &Workload,
    oracle: &Oracle,
    shape: u32,
    findings: &mut Findings,
) -> Result<(), PostgresFailure> {
    let clause = workload.definition(shape).where_clause.unwrap_or_else(|| "true".into());
    let sql = format!("SELECT count(*), coalesce(sum(id), 0) FROM loadgen.items WHERE {clause}");
    let [count, ids] = connection.row(&sql, WHAT)?;
    let (count, ids): (u64, u64) = (parsed(&count, WHAT)?, parsed(&ids, WHAT)?);
    let (mut walk, mut expected) = (oracle.walk(shape), (0, 0));
    while let Some(change) = walk.next(oracle) {
        expected = (expected.0 + 1, expected.1 + change.id);
    }
    let what = |what| format!("shape {shape}: {what} that the server finds for {clause}");
    findings.equal(&what("rows"), count, expected.0);
    findings.equal(&what("the sum of the ids of the rows"), ids, expected.1);
    Ok(())
}
