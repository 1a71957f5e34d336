//! Frame: the envelope of every record in the log: checksum, length, kind, payload. Bytes flow in
//! and out; what a payload means is left to `record`, `encode` and `decode`.
//!
//! The checksum of each frame starts from the *seed* of its file, which is drawn when a directory
//! is made: bytes that look like a frame but come from elsewhere (a row that holds a piece of
//! another log, say) are not taken for one.

use super::wire::Malformed;

/// CRC32C (4 bytes, over all that follows it), payload length (4 bytes), kind (1 byte).
pub(super) const HEAD_BYTES: usize = 9;
/// A batch frame has one length, so that it can be looked for at any byte.
pub(super) const BATCH_FRAME_BYTES: usize = HEAD_BYTES + BATCH_PAYLOAD_BYTES;
const BATCH_PAYLOAD_BYTES: usize = 9;
const NEW_BLOCK: u8 = 1;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Opens a batch: what one write and one sync cover.
    Batch = 1,
    Relation = 2,
    Set = 3,
    SetDelta = 4,
    Fragment = 5,
    AddShape = 6,
    RemoveShape = 7,
    Invalidate = 8,
    /// The front of a log that was thinned, and its end.
    Thinned = 9,
    /// Slots whose oldest changes were dropped.
    Cut = 10,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Batch,
        Kind::Relation,
        Kind::Set,
        Kind::SetDelta,
        Kind::Fragment,
        Kind::AddShape,
        Kind::RemoveShape,
        Kind::Invalidate,
        Kind::Thinned,
        Kind::Cut,
    ];

    fn from_byte(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// A frame whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    kind: u8,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// Its kind; one that is unknown was written by a newer walfan.
    pub(super) fn kind(&self) -> Result<Kind, Malformed> {
        Kind::from_byte(self.kind).ok_or(Malformed("its kind is unknown"))
    }

    /// The bytes that it takes, head included.
    pub(super) fn len(&self) -> usize {
        HEAD_BYTES + self.payload.len()
    }
}

/// What lies at the front of some bytes.
pub(super) enum Parsed<'a> {
    Frame(Frame<'a>),
    /// Too few bytes, or a wrong checksum.
    Bad,
}

/// The length that the frame at the front of `bytes` claims, head included.
pub(super) fn frame_len(bytes: &[u8]) -> Option<u64> {
    let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
    let [_, _, _, _, l0, l1, l2, l3, _] = *head;
    Some(HEAD_BYTES as u64 + u64::from(u32::from_le_bytes([l0, l1, l2, l3])))
}

/// Looks at the front of `bytes`.
pub(super) fn parse(bytes: &[u8], seed: u32) -> Parsed<'_> {
    let whole = frame_len(bytes).and_then(|len| bytes.get(..usize::try_from(len).ok()?));
    let Some((&crc, covered)) = whole.and_then(|whole| whole.split_first_chunk()) else {
        return Parsed::Bad;
    };
    match covered {
        [_, _, _, _, kind, payload @ ..] if checksum(covered, seed) == u32::from_le_bytes(crc) => {
            Parsed::Frame(Frame { kind: *kind, payload })
        }
        _ => Parsed::Bad,
    }
}

/// The CRC32C of `bytes` after `seed`.
pub(crate) fn checksum(bytes: &[u8], seed: u32) -> u32 {
    crc32c::crc32c_append(seed, bytes)
}

/// Opens a frame at the end of `out`; the payload is appended to `out`, then [`close`] is called
/// with what this returned.
pub(super) fn open(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; HEAD_BYTES]);
    out.len() - HEAD_BYTES
}

/// Closes the frame that was opened at `start`, or takes it out again when it passes 4 GiB.
pub(super) fn close(out: &mut Vec<u8>, start: usize, kind: Kind, seed: u32) -> Result<(), u64> {
    let len = out.len() - start - HEAD_BYTES;
    let Ok(short) = u32::try_from(len) else {
        out.truncate(start);
        return Err(len as u64);
    };
    fill_head(&mut out[start..], short, kind, seed);
    Ok(())
}

fn fill_head(frame: &mut [u8], len: u32, kind: Kind, seed: u32) {
    frame[4..8].copy_from_slice(&len.to_le_bytes());
    frame[8] = kind as u8;
    let crc = checksum(&frame[4..], seed);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
}

/// The payload of a batch frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHead {
    /// One more than that of the batch before.
    pub(super) seq: u64,
    /// Whether set and relation numbers start anew here (R8).
    pub(super) new_block: bool,
}

impl BatchHead {
    pub(super) fn frame(self, seed: u32) -> [u8; BATCH_FRAME_BYTES] {
        let mut frame = [0; BATCH_FRAME_BYTES];
        frame[HEAD_BYTES..HEAD_BYTES + 8].copy_from_slice(&self.seq.to_le_bytes());
        frame[HEAD_BYTES + 8] = if self.new_block { NEW_BLOCK } else { 0 };
        fill_head(&mut frame, BATCH_PAYLOAD_BYTES as u32, Kind::Batch, seed);
        frame
    }

    pub(super) fn read(payload: &[u8]) -> Result<BatchHead, Malformed> {
        let Some((&seq, &[flags])) = payload.split_first_chunk() else {
            return Err(Malformed("a batch frame has another length"));
        };
        if flags & !NEW_BLOCK != 0 {
            return Err(Malformed("a batch frame has flags that are unknown"));
        }
        Ok(BatchHead { seq: u64::from_le_bytes(seq), new_block: flags & NEW_BLOCK != 0 })
    }

    /// The first batch frame in `bytes` with a number above `seq`, and where it starts.
    pub(super) fn find_above(bytes: &[u8], seq: u64, seed: u32) -> Option<(usize, BatchHead)> {
        let looks_like_one = |window: &[u8]| {
            window[8] == Kind::Batch as u8 && window[4..8] == [BATCH_PAYLOAD_BYTES as u8, 0, 0, 0]
        };
        bytes.windows(BATCH_FRAME_BYTES).enumerate().find_map(|(at, window)| {
            let Parsed::Frame(frame) = looks_like_one(window).then(|| parse(window, seed))? else {
                return None;
            };
            let head = BatchHead::read(frame.payload).ok()?;
            (head.seq > seq).then_some((at, head))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_only_whole_unchanged_and_from_its_own_file() {
        let mut bytes = Vec::new();
        let start = open(&mut bytes);
        bytes.extend_from_slice(b"payload");
        close(&mut bytes, start, Kind::Set, 7).unwrap();
        let Parsed::Frame(frame) = parse(&bytes, 7) else { panic!("not a frame") };
        assert_eq!(
            (frame.kind(), frame.payload, frame.len()),
            (Ok(Kind::Set), &b"payload"[..], 16)
        );
        assert!(matches!(parse(&bytes, 8), Parsed::Bad));
        assert_eq!(frame_len(&bytes), Some(16));
        assert!((0..16).all(|len| matches!(parse(&bytes[..len], 7), Parsed::Bad)));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(!matches!(parse(&changed, 7), Parsed::Frame(_)), "byte {at}");
        }
        assert!(!matches!(parse(&[0; 64], 0), Parsed::Frame(_)));
    }

    #[test]
    fn a_batch_frame_is_found_at_any_byte_if_its_number_is_higher() {
        let head = BatchHead { seq: 5, new_block: true };
        let mut bytes = vec![9; 33];
        bytes.extend_from_slice(&head.frame(7));
        bytes.push(1);
        assert_eq!(BatchHead::find_above(&bytes, 4, 7), Some((33, head)));
        assert_eq!(BatchHead::find_above(&bytes, 5, 7), None);
        assert_eq!(BatchHead::find_above(&bytes, 4, 8), None);
    }
}
