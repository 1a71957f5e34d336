//! Files: the names of a log's files and of the indexes beside them, and those that are kept open.

use std::collections::VecDeque;
use std::io;

/// So many files of a shard are kept open to read, however many there are; and so many indexes.
pub(super) const OPEN_MAX: usize = 16;

/// The files that were read last, by their segment's number; the last one last.
pub(super) struct OpenFiles<T> {
    pub(super) files: VecDeque<(u32, T)>,
}

impl<T> Default for OpenFiles<T> {
    fn default() -> OpenFiles<T> {
        OpenFiles { files: VecDeque::new() }
    }
}

impl<T: Clone> OpenFiles<T> {
    pub(super) fn get(
        &mut self,
        number: u32,
        open: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let known = self.files.iter().position(|(known, _)| *known == number);
        let entry = match known.and_then(|index| self.files.remove(index)) {
            Some(entry) => entry,
            None => (number, open()?),
        };
        if self.files.len() == OPEN_MAX {
            self.files.pop_front();
        }
        let file = entry.1.clone();
        self.files.push_back(entry);
        Ok(file)
    }

    pub(super) fn close(&mut self, number: u32) {
        self.files.retain(|(known, _)| *known != number);
    }
}

/// The name of a shard's file. The first one's header is a part of the run, and is made with the
/// directory.
pub(super) fn file_name(shard: u32, number: u32) -> String {
    match number {
        0 => format!("shard-{shard:03}.log"),
        number => format!("shard-{shard:03}-{number:06}.log"),
    }
}

/// The name of the index that lies beside segment `number`.
pub(super) fn index_name(shard: u32, number: u32) -> String {
    format!("shard-{shard:03}-{number:06}.idx")
}

/// The number of the file that has this name, if it is one of the shard.
pub(super) fn file_number(shard: u32, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(&format!("shard-{shard:03}-"))?.strip_suffix(".log")?;
    digits.parse().ok().filter(|&number| file_name(shard, number) == name)
}

/// The number of the file beside which the index of this name lies, if it is one of the shard.
pub(super) fn index_number(shard: u32, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(&format!("shard-{shard:03}-"))?.strip_suffix(".idx")?;
    digits.parse().ok().filter(|&number| index_name(shard, number) == name)
}
