//! Observer: reads what was committed, and in which order, from the server's WAL through a slot of
//! its own, past the engine and with none of its code. Every transaction must be one that a writer
//! has sent, whole and once, and nobody else's.

use super::connection::Connection;
use super::error::PostgresFailure;
use super::writers::Sent;
use crate::verify::Findings;
use crate::workload::{Commit, PAYLOAD_COLUMN, Workload, read_mark};
use std::collections::HashMap;
use walfan::Lsn;

const CREATE: &str =
    "SELECT pg_create_logical_replication_slot('walfan_loadgen_observer', 'pgoutput')";
const READ: &str = "SELECT data FROM pg_logical_slot_get_binary_changes( \
    'walfan_loadgen_observer', NULL, NULL, \
    'proto_version', '1', 'publication_names', 'walfan_loadgen')";

/// Makes the slot. Only what commits from here on is seen; the publication must be there.
pub(super) fn create(connection: &mut Connection) -> Result<(), PostgresFailure> {
    connection.run(CREATE, "create the observer's slot").map(|_| ())
}

/// Reads what was committed since [`create`], in the order of the commits.
pub(super) fn read(
    connection: &mut Connection,
    workload: &Workload,
    sent: Vec<Sent>,
    findings: &mut Findings,
) -> Result<Vec<Commit>, PostgresFailure> {
    let rows = connection.run(READ, "read the observer's slot")?;
    let mut reading = Reading::new(workload, sent);
    for row in 0..rows.ntuples() {
        let message = rows.get_bytes(row, 0).and_then(unhex);
        let took = message.and_then(|message| reading.take(&message, findings));
        if took.is_none() {
            findings.add(format!("message {row} of the server's WAL cannot be read"));
        }
    }
    for transaction in reading.sent.keys() {
        findings.add(format!("transaction {transaction} was committed, but is not in the WAL"));
    }
    Ok(reading.commits)
}

/// What is being read.
struct Reading<'a> {
    workload: &'a Workload,
    /// Those that were not read yet, with the time of their sending.
    sent: HashMap<u64, u64>,
    commits: Vec<Commit>,
    open: Lsn,
    /// Of the open transaction: each row's `id` and mark, where it has one.
    rows: Vec<Option<(u64, (u64, u32))>>,
}

impl<'a> Reading<'a> {
    fn new(workload: &'a Workload, sent: Vec<Sent>) -> Reading<'a> {
        let sent = sent.into_iter().map(|sent| (sent.transaction, sent.at_us)).collect();
        Reading { workload, sent, commits: Vec::new(), open: Lsn::ZERO, rows: Vec::new() }
    }

    /// Takes a message of pgoutput; `None` if it is too short.
    fn take(&mut self, message: &[u8], findings: &mut Findings) -> Option<()> {
        match *message.first()? {
            b'B' => {
                self.open = Lsn::new(u64::from_be_bytes(message.get(1..9)?.try_into().ok()?));
                self.rows.clear();
            }
            b'I' => self.rows.push(read_row(message)),
            b'C' => self.commit(findings),
            // What describes the table.
            b'R' | b'Y' | b'O' => {}
            other => findings.add(format!(
                "the transaction at {} did something ({:?}) that loadgen never does",
                self.open,
                char::from(other)
            )),
        }
        Some(())
    }

    fn commit(&mut self, findings: &mut Findings) {
        // Servers before 15 also send transactions that did nothing to the table.
        let Some(first) = self.rows.first() else { return };
        let lsn = self.open;
        let transaction = first.map(|(_, (transaction, _))| transaction);
        let sent = transaction.and_then(|transaction| self.sent.remove_entry(&transaction));
        let Some((transaction, sent_us)) = sent else {
            findings
                .add(format!("the transaction at {lsn} is not one that loadgen sent, or again"));
            return;
        };
        let indexes = 0..self.workload.changes_of(transaction);
        let expected = |index| Some((self.workload.id(transaction, index), (transaction, index)));
        if !self.rows.iter().copied().eq(indexes.map(expected)) {
            findings
                .add(format!("transaction {transaction} at {lsn} has other rows than was sent"));
        }
        self.commits.push(Commit { lsn, transaction, sent_us, changes_before: 0 });
    }
}

/// The id and the mark of an inserted row, if it is one of loadgen's.
fn read_row(message: &[u8]) -> Option<(u64, (u64, u32))> {
    // The kind of message, the table's OID, and an N before the new row.
    let (count, mut rest) = message.get(6..)?.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        // Nothing here is null, nor left out.
        let value = rest.strip_prefix(b"t")?;
        let (len, value) = value.split_first_chunk::<4>()?;
        let (value, after) = value.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        columns.push(value);
        rest = after;
    }
    let id = std::str::from_utf8(columns.first()?).ok()?.parse().ok()?;
    Some((id, read_mark(columns.get(PAYLOAD_COLUMN)?)?))
}

/// Bytes that Postgres wrote in hex.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
    let digits = text.strip_prefix(b"\\x")?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;
    use crate::workload::marked_payload;

    fn workload() -> Workload {
        Workload { scenario: Scenario::Fanout, shapes: 10, seed: 1, changes: 2 }
    }

    fn begin(lsn: u64) -> Vec<u8> {
        [&b"B"[..], &lsn.to_be_bytes(), &[0; 12]].concat()
    }

    fn insert(id: u64, payload: &str) -> Vec<u8> {
        let mut message = b"I\0\0\0\x01N\0\x05".to_vec();
        for value in [&*id.to_string(), "hot", "0", "0", payload] {
            message.push(b't');
            message.extend((value.len() as u32).to_be_bytes());
            message.extend(value.as_bytes());
        }
        message
    }

    fn row(transaction: u64, index: u32) -> Vec<u8> {
        insert(workload().id(transaction, index), &marked_payload(transaction, index))
    }

    fn read(messages: &[Vec<u8>]) -> (Vec<Commit>, String) {
        let workload = workload();
        let sent = [3, 4].map(|transaction| Sent { transaction, at_us: transaction });
        let (mut reading, mut findings) =
            (Reading::new(&workload, sent.into()), Findings::default());
        for message in messages {
            reading.take(message, &mut findings).unwrap();
        }
        (reading.commits, findings.to_string())
    }

    #[test]
    fn commits_are_read_in_the_order_of_the_wal() {
        let c = || b"C".to_vec();
        let messages = [begin(7), row(4, 0), row(4, 1), c(), begin(9), row(3, 0), row(3, 1), c()];
        let (commits, findings) = read(&messages);
        let read: Vec<_> = commits.iter().map(|c| (c.lsn.as_u64(), c.transaction)).collect();
        assert_eq!((read, &*findings), (vec![(7, 4), (9, 3)], ""));
    }

    #[test]
    fn what_loadgen_did_not_send_is_found() {
        let c = || b"C".to_vec();
        let (commits, findings) = read(&[begin(7), insert(1, "foreign"), c()]);
        assert!(commits.is_empty() && findings.contains("not one that loadgen sent"), "{findings}");
        let again = [begin(7), row(3, 0), row(3, 1), c(), begin(9), row(3, 0), row(3, 1), c()];
        assert!(read(&again).1.contains("0/9"));
        for rows in [vec![row(3, 0)], vec![row(3, 1), row(3, 0)], vec![row(3, 0), row(4, 1)]] {
            let messages = [vec![begin(7)], rows, vec![c()]].concat();
            assert!(read(&messages).1.contains("other rows"));
        }
        assert!(read(&[begin(7), b"D".to_vec()]).1.contains("never does"));
    }

    #[test]
    fn hex_is_read() {
        assert_eq!(unhex(b"\\x42ff00"), Some(vec![0x42, 0xff, 0]));
        assert_eq!((unhex(b"42"), unhex(b"\\x4"), unhex(b"\\xg0")), (None, None, None));
    }
}
