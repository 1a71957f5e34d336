//! Tuple: a row as it lies in its message. It is walked twice: once here, to check it, and once by
//! whoever takes its values, who then cannot fail.

use super::error::DecodeError;
use super::read::Reader;
use crate::words::Value;

/// A row that was checked when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple<'a> {
    columns: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
        let columns = reader.u16("number of values")?;
        let before = reader.rest();
        for _ in 0..columns {
            value(reader)?;
        }
        let length = before.len() - reader.rest().len();
        Ok(Tuple { columns, bytes: before.get(..length).unwrap_or_default() })
    }

    /// The number of values.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.columns.into()
    }

    /// The values, in the relation's order.
    pub(crate) fn values(self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.columns).map_while(move |_| value(&mut reader).ok())
    }
}

fn value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, DecodeError> {
    match reader.u8("value kind")? {
        b'n' => Ok(Value::Null),
        b'u' => Ok(Value::Unchanged),
        b't' => {
            let length = reader.u32("value length")?;
            Ok(Value::Text(reader.bytes(length as usize, "value")?))
        }
        kind => Err(DecodeError::UnknownValue { kind: kind.into() }),
    }
}
