//! Aside: a file as redb sees it that may be read and not be written. redb mends a file that was
//! not closed in good order as it opens it; what it writes here stays in memory, and goes with it.

use crate::log::ReadAt;
use parking_lot::Mutex;
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

const PAGE_BYTES: u64 = 4096;

type Page = [u8; PAGE_BYTES as usize];

/// See the file's head.
pub(super) struct Aside {
    file: Arc<dyn ReadAt>,
    state: Mutex<State>,
}

struct State {
    len: u64,
    /// So many of the file's own bytes still count. What follows them was never written: zeros.
    file_len: u64,
    /// Those that were written to, by number. Bounded by the file: they go when it was looked at.
    pages: BTreeMap<u64, Box<Page>>,
}

impl Aside {
    pub(super) fn new(file: Arc<dyn ReadAt>, len: u64) -> Aside {
        let state = State { len, file_len: len, pages: BTreeMap::new() };
        Aside { file, state: Mutex::new(state) }
    }

    fn page(&self, state: &State, number: u64) -> io::Result<Page> {
        if let Some(page) = state.pages.get(&number) {
            return Ok(**page);
        }
        let mut page = [0; PAGE_BYTES as usize];
        let at = number * PAGE_BYTES;
        let held = state.file_len.saturating_sub(at).min(PAGE_BYTES) as usize;
        self.file.read_at(&mut page[..held], at)?;
        Ok(page)
    }
}

/// The parts of pages that `len` bytes from `offset` on lie in: the page's number, the part, and
/// the same part of those bytes.
fn parts(
    state: &State,
    offset: u64,
    len: usize,
) -> io::Result<impl Iterator<Item = (u64, Range<usize>, Range<usize>)> + use<>> {
    let end = offset.checked_add(len as u64).filter(|end| *end <= state.len);
    let end = end.ok_or(ErrorKind::UnexpectedEof)?;
    let numbers = offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
    Ok(numbers.map(move |number| {
        let begin = number * PAGE_BYTES;
        let (from, to) = (offset.max(begin), end.min(begin + PAGE_BYTES));
        let part = |base: u64| (from - base) as usize..(to - base) as usize;
        (number, part(begin), part(offset))
    }))
}

impl StorageBackend for Aside {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = &*self.state.lock();
        for (number, within, part) in parts(state, offset, out.len())? {
            out[part].copy_from_slice(&self.page(state, number)?[within]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let state = &mut *self.state.lock();
        if len < state.len {
            state.file_len = state.file_len.min(len);
            drop(state.pages.split_off(&len.div_ceil(PAGE_BYTES)));
            let (last, kept) = (len / PAGE_BYTES, (len % PAGE_BYTES) as usize);
            if let Some(page) = state.pages.get_mut(&last) {
                page[kept..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let state = &mut *self.state.lock();
        for (number, within, part) in parts(state, offset, data.len())? {
            let mut page = self.page(state, number)?;
            page[within].copy_from_slice(&data[part]);
            state.pages.insert(number, Box::new(page));
        }
        Ok(())
    }
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Directory;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What is read is what a file would hold that could be written, and the file stays as it
        /// is.
        #[test]
        fn it_reads_as_a_file_that_is_written_to(
            len in 0..20_000_usize,
            steps in prop::collection::vec((0..3_u8, 0..30_000_u64, 0..9_000_usize), 0..40),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let directory = Directory::open(dir.path(), 1).unwrap();
            let whole: Vec<u8> = (0..len).map(|at| (at % 251) as u8 + 1).collect();
            std::fs::write(dir.path().join("file"), &whole).unwrap();
            let file = directory.folder().open("file").unwrap();
            let aside = Aside::new(file.reader(), file.len());
            let mut model = whole.clone();
            for (kind, at, bytes) in steps {
                let range = at as usize..at as usize + bytes;
                match kind {
                    0 => {
                        aside.set_len(at).unwrap();
                        model.resize(at as usize, 0);
                    }
                    1 => {
                        let data = vec![255; bytes];
                        let written = aside.write(at, &data).is_ok();
                        prop_assert_eq!(written, range.end <= model.len());
                        if written {
                            model[range].copy_from_slice(&data);
                        }
                    }
                    _ => {
                        let mut out = vec![7; bytes];
                        let read = aside.read(at, &mut out).is_ok();
                        prop_assert_eq!(read, range.end <= model.len());
                        prop_assert!(!read || out == model[range]);
                    }
                }
                prop_assert_eq!(aside.len().unwrap(), model.len() as u64);
            }
            let mut out = vec![7; model.len()];
            aside.read(0, &mut out).unwrap();
            prop_assert!(out == model);
            prop_assert!(std::fs::read(dir.path().join("file")).unwrap() == whole);
        }
    }
}
