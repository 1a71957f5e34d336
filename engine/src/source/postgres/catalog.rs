//! Catalog: the published tables as Postgres's catalog describes them: what rows look like, which
//! columns are the primary key, which are enums and arrays of them, and whether old rows are sent
//! whole.

use super::error::PostgresError;
use super::quote;
use super::setup::Server;
use crate::words::{Column, Relation, TableName};
use pg_walstream::PgResult;
use std::sync::Arc;

/// One published table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) relation: Arc<Relation>,
    /// Whether it has REPLICA IDENTITY FULL.
    pub(super) full: bool,
}

/// Columns that a publication leaves out are not sent; servers before 15 cannot leave any out.
const COLUMN_LISTS_SINCE: i32 = 150_000;

/// The tables of `publication`, in order of OID. Columns are those that pgoutput sends: not
/// dropped, not generated, and in the publication's column list.
pub(super) async fn tables(
    server: &mut Server,
    publication: &str,
) -> Result<Vec<Table>, PostgresError> {
    let listed = if server.version() >= COLUMN_LISTS_SINCE {
        "AND a.attname = ANY (p.attnames)"
    } else {
        ""
    };
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relreplident = 'f', a.attname, a.atttypid, \
         EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary \
         AND a.attnum = ANY (i.indkey)), \
         (SELECT e.oid FROM pg_type t JOIN pg_type e ON e.oid IN (t.oid, t.typelem) \
         WHERE t.oid = a.atttypid AND e.typtype = 'e' AND t.oid IN (e.oid, e.typarray)) \
         FROM pg_publication_tables p \
         JOIN pg_namespace n ON n.nspname = p.schemaname \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
         AND NOT a.attisdropped AND a.attgenerated = '' {listed} \
         WHERE p.pubname = {} ORDER BY c.oid, a.attnum",
        quote::literal(publication)
    );
    let rows = server.run(&sql, ACTION).await?;
    let rows = (0..rows.ntuples()).map(|index| read_row(&rows, index));
    group(rows)
}

const ACTION: &str = "read the published tables";

struct Row {
    oid: u32,
    table: TableName,
    full: bool,
    column: Option<Column>,
}

fn read_row(rows: &PgResult, index: i32) -> Result<Row, PostgresError> {
    let malformed = || PostgresError::Statement {
        action: ACTION,
        cause: format!("row {index} of the answer cannot be read"),
    };
    let text = |column| rows.get_value(index, column);
    let column = || {
        let type_oid = text(5)?.parse().ok()?;
        let enum_oid = text(7).map(|oid| oid.parse()).transpose().ok()?;
        Some(Column { enum_oid, ..Column::new(&text(4)?, type_oid, text(6)? == "t") })
    };
    let row = || {
        let table = TableName::new(&text(1)?, &text(2)?);
        Some(Row { oid: text(0)?.parse().ok()?, table, full: text(3)? == "t", column: column() })
    };
    row().ok_or_else(malformed)
}

/// Makes one table of each run of rows with the same OID.
fn group(
    rows: impl Iterator<Item = Result<Row, PostgresError>>,
) -> Result<Vec<Table>, PostgresError> {
    let mut tables = Vec::new();
    let mut open: Option<(Row, Vec<Column>)> = None;
    for row in rows {
        let mut row = row?;
        let column = row.column.take();
        match &mut open {
            Some((first, columns)) if first.oid == row.oid => columns.extend(column),
            _ => {
                tables.extend(open.take().map(table));
                open = Some((row, column.into_iter().collect()));
            }
        }
    }
    tables.extend(open.map(table));
    Ok(tables)
}

fn table((row, columns): (Row, Vec<Column>)) -> Table {
    let relation = Arc::new(Relation::new(row.oid, row.table, columns));
    Table { relation, full: row.full }
}
