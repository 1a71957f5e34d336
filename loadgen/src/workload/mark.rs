//! Mark: the number of a transaction and a change's index in it, as text at the start of a row's
//! payload. Where a server decides in which order transactions commit, it is how a row is known
//! again.

use super::row::PAYLOAD_BYTES;

/// The payload of change `index` of transaction number `transaction`.
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "only a server's rows are marked"))]
pub(crate) fn marked_payload(transaction: u64, index: u32) -> String {
    let mut payload = format!("{transaction}.{index}.");
    let letters = (b'a'..=b'z').map(char::from).cycle();
    let missing = PAYLOAD_BYTES.saturating_sub(payload.len());
    payload.extend(letters.take(missing));
    payload
}

/// The transaction and the index that `payload` is marked with.
pub(crate) fn read_mark(payload: &[u8]) -> Option<(u64, u32)> {
    let mut parts = payload.split(|byte| *byte == b'.');
    let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
    let (transaction, index) = (number()?, number()?);
    Some((transaction, index.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let payload = marked_payload(123_456, 7);
        assert_eq!(payload.len(), PAYLOAD_BYTES);
        assert_eq!(read_mark(payload.as_bytes()), Some((123_456, 7)));
        for foreign in ["", "abc", "1", "1.", "x.1.", "1.99999999999."] {
            assert_eq!(read_mark(foreign.as_bytes()), None, "{foreign}");
        }
    }
}
