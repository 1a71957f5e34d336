//! Whole: a transaction that comes in several small fragments joins the wave like one that comes in
//! one, if all of it is there: its first ones are held back as long as there are more messages, and
//! no longer. So who gets it is visited once and not once a fragment.

use super::Shard;
use super::wave::{WAVE_CHANGES_MAX, WAVE_FRAGMENTS_MAX};
use crate::words::{Fragment, Lsn};
use std::sync::Arc;
use std::time::Instant;

/// Fragments of one transaction, from its begin on: as good as queued still. Bounded by what a wave
/// takes.
#[derive(Default)]
pub(super) struct Held {
    fragments: Vec<Arc<Fragment>>,
    changes: usize,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.fragments.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.fragments.len()
    }

    pub(super) fn changes(&self) -> usize {
        self.changes
    }

    /// Whether the commit is there too.
    pub(super) fn is_whole(&self) -> bool {
        self.fragments.last().is_some_and(|last| last.commits())
    }

    fn commit(&self) -> Option<Lsn> {
        self.fragments.last().map(|last| last.commit_lsn())
    }

    fn push(&mut self, fragment: Arc<Fragment>) {
        self.changes += fragment.len();
        self.fragments.push(fragment);
    }

    fn is_too_large(&self) -> bool {
        self.len() > WAVE_FRAGMENTS_MAX || self.changes > WAVE_CHANGES_MAX
    }
}

impl Shard {
    /// Takes the stream's next fragment, or holds it back.
    pub(super) fn take_fragment(&mut self, fragment: Arc<Fragment>, now: Instant) {
        let goes_on = !fragment.begins() && self.held.commit() == Some(fragment.commit_lsn());
        if !goes_on {
            self.release_held(now);
            let begins = fragment.begins() && !fragment.commits() && self.stream.open.is_none();
            let is_new = fragment.last_offset() > self.stream.accepted && !fragment.is_empty();
            if !begins || !is_new {
                // One that is sent again as a whole may go on where its first part was taken.
                let whole = fragment.begins() && fragment.commits() && self.stream.open.is_none();
                return self.handle_fragment(fragment, whole, now);
            }
        }
        self.held.push(fragment);
        if self.held.is_too_large() {
            self.release_held(now);
        } else if self.held.is_whole() && self.wave.has_room_for(&self.held) {
            self.join_held(now);
        }
    }

    /// What is held goes on when there is no wave before it: with the next one, if it is a whole
    /// transaction, and by itself if there is `nothing_more` to come now. False: it does not.
    pub(super) fn move_held(&mut self, nothing_more: bool, now: Instant) -> bool {
        if self.held.is_empty() || !self.wave.is_empty() {
            return false;
        }
        let whole = self.held.is_whole();
        if whole {
            self.join_held(now);
        } else if nothing_more {
            self.release_held(now);
        }
        whole || nothing_more
    }

    /// Takes what is held, whatever that is: something else is to be done after it.
    pub(super) fn release_held(&mut self, now: Instant) {
        if self.held.is_empty() {
            return;
        }
        self.deliver_wave(now);
        if self.held.is_whole() && !self.held.is_too_large() {
            return self.join_held(now);
        }
        for fragment in std::mem::take(&mut self.held).fragments {
            self.handle_fragment(fragment, false, now);
        }
    }

    fn join_held(&mut self, now: Instant) {
        for fragment in std::mem::take(&mut self.held).fragments {
            self.handle_fragment(fragment, true, now);
        }
    }
}
