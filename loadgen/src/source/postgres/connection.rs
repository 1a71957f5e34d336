//! Connection: plain SQL over libpq, one statement after another. It blocks.

use super::error::PostgresFailure;
use pg_walstream::{PgReplicationConnection, PgResult, ReplicationError};

/// See the file's head.
pub(super) struct Connection {
    inner: PgReplicationConnection,
}

impl Connection {
    /// Connects to the server that `conninfo` names.
    pub(super) fn open(conninfo: &str) -> Result<Connection, PostgresFailure> {
        let failed = |error| PostgresFailure::Connect { cause: one_line(&error) };
        let inner = PgReplicationConnection::connect(conninfo).map_err(failed)?;
        let mut connection = Connection { inner };
        // The forms that are read here.
        connection.run("SET bytea_output = hex; SET datestyle = iso", "set up a connection")?;
        Ok(connection)
    }

    /// Runs `sql`, which may be several statements, and gives the rows of the last one.
    pub(super) fn run(
        &mut self,
        sql: &str,
        what: &'static str,
    ) -> Result<PgResult, PostgresFailure> {
        let refused = |error| PostgresFailure::Statement {
            what,
            cause: one_line::<ReplicationError>(&error),
        };
        self.inner.exec(sql).map_err(refused)
    }

    /// The first row of `sql`'s answer, which has `N` columns.
    pub(super) fn row<const N: usize>(
        &mut self,
        sql: &str,
        what: &'static str,
    ) -> Result<[String; N], PostgresFailure> {
        let rows = self.run(sql, what)?;
        let values: Vec<String> = (0..).map_while(|column| rows.get_value(0, column)).collect();
        values.try_into().map_err(|values: Vec<String>| PostgresFailure::Answer {
            what,
            answer: values.join(", "),
        })
    }
}

/// `text` as what it is.
pub(super) fn parsed<T: std::str::FromStr>(
    text: &str,
    what: &'static str,
) -> Result<T, PostgresFailure> {
    text.parse().map_err(|_| PostgresFailure::Answer { what, answer: text.to_owned() })
}

fn one_line<E: std::fmt::Display>(error: &E) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
