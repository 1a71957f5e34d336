//! Files: the names of a snapshot's files. A name says whose file it is, and whether it is the last
//! one: that is there once all others are, so it says that the snapshot is complete.

use super::chunk::ChunkId;
use crate::words::Handle;

/// What is being written has this behind its name.
pub(super) const NEW: &str = ".new";

/// `<handle>-<attempt>-<number>` in hexadecimal, and `.rows` or, for the last one, `.last`.
pub(super) fn name(id: ChunkId, last: bool) -> String {
    let ChunkId { handle, attempt, number } = id;
    let end = if last { "last" } else { "rows" };
    format!("{handle}-{attempt:016x}-{number:08x}.{end}")
}

/// A file of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Chunk {
        id: ChunkId,
        last: bool,
    },
    /// One that was being written.
    New {
        attempt: u64,
    },
}

/// What the file `name` is, if it is ours.
pub(super) fn parse(text: &str) -> Option<Found> {
    if let Some(whole) = text.strip_suffix(NEW) {
        return match parse(whole)? {
            Found::Chunk { id, .. } => Some(Found::New { attempt: id.attempt }),
            Found::New { .. } => None,
        };
    }
    let (stem, last) = match text.strip_suffix(".rows") {
        Some(stem) => (stem, false),
        None => (text.strip_suffix(".last")?, true),
    };
    let mut parts = stem.split('-');
    let handle: Handle = parts.next()?.parse().ok()?;
    let attempt = u64::from_str_radix(parts.next()?, 16).ok()?;
    let number = u32::from_str_radix(parts.next()?, 16).ok()?;
    let id = ChunkId { handle, attempt, number };
    (name(id, last) == text).then_some(Found::Chunk { id, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_not_ours() {
        let id = ChunkId { handle: Handle::new(7), attempt: 3, number: 0xAB };
        for last in [false, true] {
            let name = name(id, last);
            assert_eq!(parse(&name), Some(Found::Chunk { id, last }));
            assert_eq!(parse(&format!("{name}.new")), Some(Found::New { attempt: 3 }));
            assert_eq!(parse(&format!("{name}.new.new")), None);
            assert_eq!(parse(&name.to_uppercase()), None);
        }
        let stem = "0000000000000007-0000000000000003";
        for other in ["", "x", ".rows", stem, "7-3-1.rows"] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(parse(&format!("{stem}-000000ab.rows.old")), None);
    }
}
