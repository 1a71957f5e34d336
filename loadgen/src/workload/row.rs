//! Row: writes one transaction of the workload as fragments. One buffer for a row's texts, used
//! again for each.

use super::Workload;
use std::io::Write;
use std::sync::Arc;
use walfan::{Fragment, FragmentError, FragmentLimits, Relation, TransactionBuilder, Value};

/// Bytes of text beside the columns that definitions look at.
pub(crate) const PAYLOAD_BYTES: usize = 128;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct RowWriter {
    workload: Workload,
    relation: Arc<Relation>,
    payload: [u8; PAYLOAD_BYTES],
}

impl RowWriter {
    pub(crate) fn new(workload: Workload, relation: Arc<Relation>) -> RowWriter {
        let payload = std::array::from_fn(|index| b'a' + (index % 26) as u8);
        RowWriter { workload, relation, payload }
    }

    /// Hands the fragments of transaction number `transaction` to `take`, in order.
    pub(crate) fn write<E: From<FragmentError>>(
        &self,
        transaction: u64,
        mut take: impl FnMut(Fragment) -> Result<(), E>,
    ) -> Result<(), E> {
        let changes_max = self.workload.fragment_changes(transaction);
        let limits = FragmentLimits { changes_max, ..FragmentLimits::default() };
        let lsn = Workload::lsn(transaction);
        // Postgres's own transaction ids have 32 bits and wrap around.
        let mut builder = TransactionBuilder::new(transaction as u32, lsn).with_limits(limits);
        for index in 0..self.workload.changes_of(transaction) {
            if builder.is_full() {
                take(builder.cut())?;
            }
            self.insert(&mut builder, transaction, index)?;
        }
        take(builder.commit(Workload::end_lsn(transaction)))
    }

    fn insert(
        &self,
        builder: &mut TransactionBuilder,
        transaction: u64,
        index: u32,
    ) -> Result<(), FragmentError> {
        let columns = self.workload.columns(transaction, index);
        let (id, price) = (Digits::new(columns.id), Digits::new(columns.price.into()));
        let name = Digits::new(columns.name.into());
        let kind = columns.kind.as_bytes();
        let row = [id.text(), kind, price.text(), name.text(), &self.payload];
        builder.insert(&self.relation, row.map(Value::Text))
    }
}

/// A number's decimal digits, without an allocation.
struct Digits {
    bytes: [u8; 20],
    len: usize,
}

impl Digits {
    fn new(number: u64) -> Digits {
        let mut bytes = [0; 20];
        let mut rest = &mut bytes[..];
        // A u64 has at most 20 digits, so they always fit.
        let written = write!(rest, "{number}");
        debug_assert!(written.is_ok());
        let len = 20 - rest.len();
        Digits { bytes, len }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_large_transaction_of_crash_has_two_changes_in_two_fragments() {
        let workload = Workload { scenario: Scenario::Crash, shapes: 10, seed: 1, changes: 1 };
        let writer = RowWriter::new(workload.clone(), Workload::relation());
        let mut fragments = Vec::new();
        let take = |fragment| {
            fragments.push(fragment);
            Ok::<(), FragmentError>(())
        };
        writer.write(7, take).unwrap();
        let lens: Vec<_> = fragments.iter().map(|f| (f.begins(), f.len(), f.commits())).collect();
        assert_eq!(lens, [(true, 1, false), (false, 1, true)]);
        let row = fragments[1].get(0).unwrap().new_row().unwrap();
        let id = workload.id(7, 1).to_string();
        assert_eq!(row.get(0), Some(Value::Text(id.as_bytes())));
        assert_eq!(row.get(1), Some(Value::Text(b"hot")));
        assert_eq!(Digits::new(u64::MAX).text(), u64::MAX.to_string().as_bytes());
    }
}
