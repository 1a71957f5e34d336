//! Header: the first bytes of a shard's file. They say whose file it is, so that a file from
//! another directory, shard or version is refused and not read as if it were ours.

use super::frame::checksum;

pub(super) const HEADER_BYTES: usize = 40;
/// The header of every file but a log's first.
pub(super) const SEGMENT_HEADER_BYTES: usize = 52;
const SEGMENT_MAGIC: [u8; 8] = *b"walfan-S";
const MAGIC: [u8; 8] = *b"walfan-L";
const VERSION: u32 = 2;

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
    /// It does not go on where the file before it ends.
    #[error(
        "it is file {} of its log and goes on at byte {}, not file {} that goes on at byte {}",
        found.0, found.1, expected.0, expected.1
    )]
    Misplaced { found: (u32, u64), expected: (u32, u64) },
}

impl Identity {
    /// magic, version, shard, shards, directory, crc32c of these.
    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..36].copy_from_slice(&self.fields(MAGIC, VERSION));
        header[36..].copy_from_slice(&self.seed().to_le_bytes());
        header
    }

    /// magic, version, shard, shards, directory, number, position of the first byte behind the
    /// header, crc32c of these from the seed.
    pub(super) fn segment_header(&self, number: u32, first: u64) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut header = [0; SEGMENT_HEADER_BYTES];
        header[..36].copy_from_slice(&self.fields(SEGMENT_MAGIC, VERSION));
        header[36..40].copy_from_slice(&number.to_le_bytes());
        header[40..48].copy_from_slice(&first.to_le_bytes());
        let crc = checksum(&header[..48], self.seed());
        header[48..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// What the checksums of the log's frames start from: its first header's own.
    pub(super) fn seed(&self) -> u32 {
        checksum(&self.fields(MAGIC, VERSION), 0)
    }

    /// magic, version, shard, shards, directory.
    pub(super) fn fields(&self, magic: [u8; 8], version: u32) -> [u8; 36] {
        let mut fields = [0; 36];
        fields[..8].copy_from_slice(&magic);
        fields[8..12].copy_from_slice(&version.to_le_bytes());
        fields[12..16].copy_from_slice(&self.shard.to_le_bytes());
        fields[16..20].copy_from_slice(&self.shards.to_le_bytes());
        fields[20..].copy_from_slice(&self.directory.to_le_bytes());
        fields
    }

    /// Checks that `header` is this identity's.
    pub(super) fn check(&self, header: &[u8; HEADER_BYTES]) -> Result<(), HeaderError> {
        let found = named(header, MAGIC)?;
        if *header != found.header() {
            Err(HeaderError::Damaged)
        } else if found != *self {
            Err(HeaderError::Foreign { found, expected: *self })
        } else {
            Ok(())
        }
    }

    /// Checks that `header` is that of file `number` of this identity's log, which goes on at byte
    /// `first`.
    pub(super) fn check_segment(
        &self,
        header: &[u8; SEGMENT_HEADER_BYTES],
        number: u32,
        first: u64,
    ) -> Result<(), HeaderError> {
        let found = named(header, SEGMENT_MAGIC)?;
        let place = (number_at(header, 36), long_at(header, 40));
        if *header != found.segment_header(place.0, place.1) {
            Err(HeaderError::Damaged)
        } else if found != *self {
            Err(HeaderError::Foreign { found, expected: *self })
        } else if place != (number, first) {
            Err(HeaderError::Misplaced { found: place, expected: (number, first) })
        } else {
            Ok(())
        }
    }
}

/// Whose a header says that it is, if it has this version's form.
fn named(header: &[u8], magic: [u8; 8]) -> Result<Identity, HeaderError> {
    let version = number_at(header, 8);
    if !header.starts_with(&magic) {
        return Err(HeaderError::Magic);
    }
    if version != VERSION {
        return Err(HeaderError::Version { found: version });
    }
    let directory = header.get(20..).and_then(|rest| rest.first_chunk());
    let directory = u128::from_le_bytes(*directory.expect("fields lie inside the header"));
    Ok(Identity { directory, shard: number_at(header, 12), shards: number_at(header, 16) })
}

fn number_at(header: &[u8], at: usize) -> u32 {
    let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(*bytes.expect("fields lie inside the header"))
}

fn long_at(header: &[u8], at: usize) -> u64 {
    let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
    u64::from_le_bytes(*bytes.expect("fields lie inside the header"))
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
                8..12 => HeaderError::Version { found: VERSION ^ 0x10 << (8 * (at - 8)) },
                _ => HeaderError::Damaged,
            };
            assert_eq!(own.check(&header), Err(expected), "byte {at}");
        }
    }

    #[test]
    fn only_the_next_file_of_the_own_log_is_taken() {
        let own = Identity { directory: 7, shard: 1, shards: 4 };
        let header = own.segment_header(3, 900);
        assert_eq!(own.check_segment(&header, 3, 900), Ok(()));
        let other = Identity { directory: 8, ..own };
        let expected = HeaderError::Foreign { found: own, expected: other };
        assert_eq!(other.check_segment(&header, 3, 900), Err(expected));
        for expected in [(2, 900), (3, 901)] {
            let misplaced = HeaderError::Misplaced { found: (3, 900), expected };
            assert_eq!(own.check_segment(&header, expected.0, expected.1), Err(misplaced));
        }
        for at in 8..SEGMENT_HEADER_BYTES {
            let mut header = header;
            header[at] ^= 0x10;
            let checked = own.check_segment(&header, 3, 900);
            let version = matches!(checked, Err(HeaderError::Version { .. }));
            assert!(if at < 12 { version } else { checked == Err(HeaderError::Damaged) }, "{at}");
        }
    }
}
