//! Scan: a file's frames, from front to back, through a window of bounded size.

use super::device::ReadAt;
use super::frame::{self, BATCH_FRAME_BYTES, BatchHead, Frame, HEAD_BYTES, Parsed};
use std::io;

/// So much is read at once; a frame that is larger widens the window for as long as it lasts.
const WINDOW_BYTES: u64 = 1 << 18;

/// What comes next in the file.
pub(super) enum Step<'a> {
    /// A frame, and the byte at which it starts.
    Frame(u64, Frame<'a>),
    /// The file ends after whole frames.
    End,
    /// From here on there is no frame.
    Bad,
}

/// Walks one file.
pub(super) struct Scanner<'a> {
    reader: &'a dyn ReadAt,
    seed: u32,
    /// Where the next frame starts, and where the file ends.
    position: u64,
    end: u64,
    window: Vec<u8>,
    /// Where `position` lies in the window.
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(reader: &'a dyn ReadAt, seed: u32, position: u64, end: u64) -> Scanner<'a> {
        Scanner { reader, seed, position, end, window: Vec::new(), at: 0 }
    }

    /// Where the next frame starts, or the bad bytes, or the end.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next frame.
    pub(super) fn next(&mut self) -> io::Result<Step<'_>> {
        if self.position == self.end {
            return Ok(Step::End);
        }
        let head = self.ahead(HEAD_BYTES as u64)?;
        let Some(len) = head.and_then(frame::frame_len) else { return Ok(Step::Bad) };
        let (position, seed) = (self.position, self.seed);
        if self.ahead(len)?.is_none() {
            return Ok(Step::Bad);
        }
        let bytes = self.window.get(self.at..).unwrap_or_default();
        let Parsed::Frame(frame) = frame::parse(bytes, seed) else { return Ok(Step::Bad) };
        self.position += frame.len() as u64;
        self.at += frame.len();
        Ok(Step::Frame(position, frame))
    }

    /// The next `len` bytes and maybe more, or `None` if the file has fewer.
    fn ahead(&mut self, len: u64) -> io::Result<Option<&[u8]>> {
        let left = self.end - self.position;
        if len > left {
            return Ok(None);
        }
        let held = (self.window.len() - self.at) as u64;
        if held < len {
            self.window.drain(..self.at);
            self.at = 0;
            let wanted = len.max(WINDOW_BYTES).min(left);
            self.window.resize(wanted as usize, 0);
            let fresh = self.window.get_mut(held as usize..).unwrap_or_default();
            self.reader.read_at(fresh, self.position + held)?;
            self.window.shrink_to(WINDOW_BYTES as usize);
        }
        Ok(self.window.get(self.at..))
    }

    /// The first batch frame behind `position` with a number above `seq`: its byte and its number.
    pub(super) fn find_batch_above(&self, seq: u64) -> io::Result<Option<(u64, u64)>> {
        let mut from = self.position + 1;
        let mut window = Vec::new();
        while from + BATCH_FRAME_BYTES as u64 <= self.end {
            window.resize(WINDOW_BYTES.min(self.end - from) as usize, 0);
            self.reader.read_at(&mut window, from)?;
            if let Some((at, head)) = BatchHead::find_above(&window, seq, self.seed) {
                return Ok(Some((from + at as u64, head.seq)));
            }
            // A frame may lie across two windows.
            from += (window.len() - (BATCH_FRAME_BYTES - 1)) as u64;
        }
        Ok(None)
    }
}
