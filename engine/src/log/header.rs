//! Header: the first bytes of a shard's file. They say whose file it is, so that a file from
//! another directory, shard or version is refused and not read as if it were ours.

use super::frame::checksum;

pub(super) const HEADER_BYTES: usize = 40;
const MAGIC: [u8; 8] = *b"walfan-L";
const VERSION: u32 = 1;

/// Whose file a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Drawn when the directory is made.
    pub(crate) directory: u128,
    pub(crate) shard: u32,
    /// The number of shards in the directory.
    pub(crate) shards: u32,
}

/// What is wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    /// It is not a walfan log.
    #[error("it is no walfan log")]
    Magic,
    /// It was written by another version.
    #[error("it has format version {found}, and this walfan reads version {VERSION}")]
    Version { found: u32 },
    /// Its checksum is wrong.
    #[error("its header is damaged")]
    Damaged,
    /// It belongs elsewhere.
    #[error(
        "it is shard {} of {} of directory {:032x}, not shard {} of {} of directory {:032x}",
        found.shard, found.shards, found.directory,
        expected.shard, expected.shards, expected.directory
    )]
    Foreign { found: Identity, expected: Identity },
}

impl Identity {
    /// magic, version, shard, shards, directory, crc32 of these.
    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&self.shard.to_le_bytes());
        header[16..20].copy_from_slice(&self.shards.to_le_bytes());
        header[20..36].copy_from_slice(&self.directory.to_le_bytes());
        header[36..].copy_from_slice(&self.seed().to_le_bytes());
        header
    }

    /// What the checksums of the file's frames start from: the header's own.
    pub(super) fn seed(&self) -> u32 {
        let mut fields = Vec::with_capacity(HEADER_BYTES);
        fields.extend_from_slice(&MAGIC);
        for field in [VERSION, self.shard, self.shards] {
            fields.extend_from_slice(&field.to_le_bytes());
        }
        fields.extend_from_slice(&self.directory.to_le_bytes());
        checksum(&fields, 0)
    }

    /// Checks that `header` is this identity's.
    pub(super) fn check(&self, header: &[u8; HEADER_BYTES]) -> Result<(), HeaderError> {
        let number = |at: usize| {
            let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
            u32::from_le_bytes(*bytes.expect("fields lie inside the header"))
        };
        let directory = header.get(20..).and_then(|rest| rest.first_chunk());
        let directory = u128::from_le_bytes(*directory.expect("fields lie inside the header"));
        let found = Identity { directory, shard: number(12), shards: number(16) };
        if header[..8] != MAGIC {
            Err(HeaderError::Magic)
        } else if number(8) != VERSION {
            Err(HeaderError::Version { found: number(8) })
        } else if number(36) != found.seed() {
            Err(HeaderError::Damaged)
        } else if found != *self {
            Err(HeaderError::Foreign { found, expected: *self })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_header_is_taken() {
        let own = Identity { directory: 7, shard: 1, shards: 4 };
        assert_eq!(own.check(&own.header()), Ok(()));
        for other in [
            Identity { directory: 8, ..own },
            Identity { shard: 0, ..own },
            Identity { shards: 3, ..own },
        ] {
            let expected = HeaderError::Foreign { found: other, expected: own };
            assert_eq!(own.check(&other.header()), Err(expected));
        }
        for at in 0..HEADER_BYTES {
            let mut header = own.header();
            header[at] ^= 0x10;
            let expected = match at {
                0..8 => HeaderError::Magic,
                8..12 => HeaderError::Version { found: 1 ^ 0x10 << (8 * (at - 8)) },
                _ => HeaderError::Damaged,
            };
            assert_eq!(own.check(&header), Err(expected), "byte {at}");
        }
    }
}
