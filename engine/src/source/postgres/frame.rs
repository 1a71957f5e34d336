//! Frame: the envelope of everything that a walsender sends: data with its place in the WAL, or a
//! keepalive.

use crate::words::Lsn;

/// What a copy message of the replication protocol carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// One message of the output plugin.
    Data { payload: &'a [u8] },
    /// How far the server has come, and whether it wants to hear from us at once.
    Keepalive { wal_end: Lsn, reply_requested: bool },
}

/// An envelope that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server sent a replication message of {length} bytes and kind {kind:?} that is neither \
     data nor a keepalive; check what lies between the engine and the server"
)]
pub struct FrameError {
    length: usize,
    kind: Option<char>,
}

/// Two LSNs and a time stand before the payload.
const DATA_HEADER_BYTES: usize = 24;

impl<'a> Frame<'a> {
    /// Reads the envelope of `bytes`.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let frame = match bytes.split_first() {
            Some((b'w', rest)) => {
                rest.get(DATA_HEADER_BYTES..).map(|payload| Frame::Data { payload })
            }
            Some((b'k', rest)) => keepalive(rest),
            _ => None,
        };
        frame.ok_or_else(|| FrameError {
            length: bytes.len(),
            kind: bytes.first().map(|&byte| byte.into()),
        })
    }
}

/// An LSN, a time, a flag.
fn keepalive(rest: &[u8]) -> Option<Frame<'_>> {
    let (wal_end, rest) = rest.split_first_chunk::<8>()?;
    let (_time, rest) = rest.split_first_chunk::<8>()?;
    let &[reply] = rest else { return None };
    let wal_end = Lsn::new(u64::from_be_bytes(*wal_end));
    Some(Frame::Keepalive { wal_end, reply_requested: reply != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn data_and_keepalives_are_told_apart() {
        let mut data = vec![b'w'];
        data.extend([0; DATA_HEADER_BYTES]);
        data.extend(b"payload");
        assert_eq!(Frame::read(&data), Ok(Frame::Data { payload: b"payload" }));
        let mut keepalive = vec![b'k'];
        keepalive.extend(0x1_0000_0002_u64.to_be_bytes());
        keepalive.extend([0; 8]);
        keepalive.push(1);
        let wal_end = Lsn::new(0x1_0000_0002);
        let expected = Frame::Keepalive { wal_end, reply_requested: true };
        assert_eq!(Frame::read(&keepalive), Ok(expected));
        for cut in 0..keepalive.len() {
            assert!(Frame::read(&keepalive[..cut]).is_err(), "{cut}");
        }
        assert!(Frame::read(&data[..DATA_HEADER_BYTES]).is_err());
        assert!(Frame::read(b"z").unwrap_err().to_string().contains("'z'"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Frame::read(&bytes);
        }
    }
}
