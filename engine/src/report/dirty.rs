//! Dirty: the bitmap in which consumers' threads mark the shapes that a shard has to look at (R5).
//!
//! Slots flow in from many threads, and out to the one shard that owns the bitmap. A mark cannot
//! overflow: marking a shape twice is marking it once. It has three levels: words of slots, a
//! summary of the words of a page, and a queue of the pages that have a mark. Slots rise for ever,
//! so pages come and go with their shapes (R8). What a mark is about (a report, a death note, a
//! factory's result) lies in the shape's mailbox; waking the shard is [`super::Wake`]'s.

use crate::sync::{Arc, AtomicU64, Ordering};
use crate::words::Slot;
use ready::ReadyPages;

/// Words of a page: as many as its summary has bits.
#[cfg(not(loom))]
const PAGE_WORDS: usize = 64;
/// Slots of a word: as many as it has bits.
#[cfg(not(loom))]
const WORD_SLOTS: usize = 64;

// Small under the checker, so that two marks can share a word, a page, or nothing.
#[cfg(loom)]
const PAGE_WORDS: usize = 2;
#[cfg(loom)]
const WORD_SLOTS: usize = 2;

const PAGE_SLOTS: usize = PAGE_WORDS * WORD_SLOTS;

/// The marks of [`PAGE_SLOTS`] slots. Shared by its shard and the mailboxes of its shapes.
#[derive(Debug)]
pub(crate) struct DirtyPage {
    /// Marked slots. Bits are set by reporters, and taken, a word at a time, by the shard.
    words: [AtomicU64; PAGE_WORDS],
    /// Words that may have a mark. Bits are set by reporters, and all taken at once by the shard,
    /// each time that it takes this page from the queue. So the page is in the queue, or about to
    /// be pushed, or just popped, exactly while this is not zero, and never twice.
    summary: AtomicU64,
    /// The shard's queue, and this page's number in it.
    ready: Arc<ReadyPages>,
    number: u32,
}

impl DirtyPage {
    fn new(number: u32, ready: Arc<ReadyPages>) -> DirtyPage {
        let words = std::array::from_fn(|_| AtomicU64::new(0));
        DirtyPage { words, summary: AtomicU64::new(0), ready, number }
    }

    /// Marks `slot`, which must be one of this page's. What the mark is about is stored before.
    ///
    /// True: the caller must call [`super::Wake::notify`]. False: someone else is about to, or the
    /// shard has not yet taken an earlier mark beside this one, and takes both.
    #[must_use = "a shard that is not woken may sleep on this mark"]
    pub(crate) fn mark(&self, slot: Slot) -> bool {
        let index = slot.index() % PAGE_SLOTS;
        let (word, bit) = (index / WORD_SLOTS, index % WORD_SLOTS);
        // Always written, also when the bit is set: only the write carries the new value along.
        // Release: what the mark is about is visible to the shard. Partner: the swap of this word
        // in `Current::next`.
        if self.words[word].fetch_or(1 << bit, Ordering::Release) != 0 {
            return false;
        }
        // Release: who takes the summary finds the word. Partner: the swap in `Current::take`.
        if self.summary.fetch_or(1 << word, Ordering::Release) != 0 {
            return false;
        }
        self.ready.push(self.number);
        true
    }
}

/// The shard's end: hands out pages, and takes the marks.
#[derive(Debug)]
pub(crate) struct Dirty {
    /// By page number; `None` is not made yet, or gone.
    pages: Vec<Option<Arc<DirtyPage>>>,
    /// The numbers of pages that have a mark. Pushed by reporters, popped by the shard.
    ready: Arc<ReadyPages>,
    current: Option<Current>,
    /// Where the sweep over the pages goes on.
    swept: usize,
}

impl Dirty {
    pub(crate) fn new() -> Dirty {
        Dirty { pages: Vec::new(), ready: Arc::default(), current: None, swept: 0 }
    }

    /// The page that holds `slot`'s mark, for its mailbox.
    pub(crate) fn page_for(&mut self, slot: Slot) -> Arc<DirtyPage> {
        let number = slot.index() / PAGE_SLOTS;
        if self.pages.len() <= number {
            self.pages.resize_with(number + 1, || None);
        }
        let page = self.pages[number].get_or_insert_with(|| {
            let number = u32::try_from(number).expect("a slot's number is 32 bits");
            Arc::new(DirtyPage::new(number, self.ready.clone()))
        });
        page.clone()
    }

    /// Looks at one page, another one at each call, and lets go of it if no mailbox holds it any
    /// more and no slot of it is still to be given out, from `next` on.
    pub(crate) fn sweep(&mut self, next: Slot) {
        self.swept = if self.swept < self.pages.len() { self.swept } else { 0 };
        let given_out = (self.swept + 1) * PAGE_SLOTS <= next.index();
        if let Some(page) = self.pages.get_mut(self.swept) {
            // One: this very reference. Nobody else can make another one of it.
            if given_out && page.as_ref().is_some_and(|page| Arc::strong_count(page) == 1) {
                *page = None;
            }
        }
        self.swept += 1;
    }

    /// Takes up to `max` marks, and calls `each` with their slots. Whether more may be waiting.
    ///
    /// A mark is cleared before `each` is called with its slot, so a shape that is marked again
    /// meanwhile comes again. Slots of shapes that are gone may come.
    pub(crate) fn drain(&mut self, max: usize, mut each: impl FnMut(Slot)) -> bool {
        for _ in 0..max {
            match self.next() {
                Some(slot) => each(slot),
                None => return false,
            }
        }
        !self.is_empty()
    }

    /// Whether there is no mark to take: the shard's second look before it sleeps.
    pub(crate) fn is_empty(&self) -> bool {
        self.current.as_ref().is_none_or(Current::is_done) && self.ready.is_empty()
    }

    fn next(&mut self) -> Option<Slot> {
        loop {
            if let Some(slot) = self.current.as_mut().and_then(Current::next) {
                return Some(slot);
            }
            self.current = None;
            let number = self.ready.pop()?;
            let page = self.pages.get(number as usize).and_then(Option::as_ref);
            self.current = page.cloned().map(Current::take);
        }
    }
}

/// The page that is being drained, with what was taken of it and not handed out yet.
#[derive(Debug)]
struct Current {
    page: Arc<DirtyPage>,
    /// Summary bits that were taken.
    words: u64,
    /// The word whose slots were taken, and those left of it.
    word: usize,
    slots: u64,
}

impl Current {
    /// Takes the summary of a page that was just popped: once, whatever is marked meanwhile, or a
    /// page could be in the queue twice.
    fn take(page: Arc<DirtyPage>) -> Current {
        // Acquire: partner is the `fetch_or` of the summary in `mark`. A word that is marked after
        // this finds the summary zero, and queues the page again.
        let words = page.summary.swap(0, Ordering::Acquire);
        Current { page, words, word: 0, slots: 0 }
    }

    fn is_done(&self) -> bool {
        self.words == 0 && self.slots == 0
    }

    fn next(&mut self) -> Option<Slot> {
        while self.slots == 0 {
            if self.words == 0 {
                return None;
            }
            self.word = self.words.trailing_zeros() as usize;
            self.words &= self.words - 1;
            // Acquire: partner is the `fetch_or` of the word in `mark`. Taken before the slots are
            // handed out: one that is marked after this is found by the next round.
            self.slots = self.page.words[self.word].swap(0, Ordering::Acquire);
        }
        let bit = self.slots.trailing_zeros();
        self.slots &= self.slots - 1;
        let first = self.page.number * PAGE_SLOTS as u32 + (self.word * WORD_SLOTS) as u32;
        Some(Slot::new(first + bit))
    }
}

/// The queue of pages that have a mark: bounded by the number of pages, as no page is in it twice.
#[cfg(not(loom))]
mod ready {
    use crossbeam::queue::SegQueue;

    #[derive(Debug, Default)]
    pub(super) struct ReadyPages(SegQueue<u32>);

    impl ReadyPages {
        pub(super) fn push(&self, page: u32) {
            self.0.push(page);
        }

        pub(super) fn pop(&self) -> Option<u32> {
            self.0.pop()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }
}

/// The queue's stand-in under loom, with no more ordering than a queue promises: a push happens
/// before its pop.
#[cfg(loom)]
mod ready {
    use crate::sync::{AtomicU64, Ordering};

    #[derive(Debug)]
    pub(super) struct ReadyPages(AtomicU64);

    impl Default for ReadyPages {
        fn default() -> ReadyPages {
            ReadyPages(AtomicU64::new(0))
        }
    }

    impl ReadyPages {
        pub(super) fn push(&self, page: u32) {
            let before = self.0.fetch_or(1 << page, Ordering::Release);
            assert_eq!(before & 1 << page, 0, "a page is in the queue twice");
        }

        pub(super) fn pop(&self) -> Option<u32> {
            let pages = self.0.load(Ordering::Relaxed);
            let page = (pages != 0).then(|| pages.trailing_zeros())?;
            self.0.fetch_and(!(1 << page), Ordering::Acquire);
            Some(page)
        }

        pub(super) fn is_empty(&self) -> bool {
            self.0.load(Ordering::Relaxed) == 0
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn drained(dirty: &mut Dirty, max: usize) -> (BTreeSet<u32>, bool) {
        let mut slots = BTreeSet::new();
        let more = dirty.drain(max, |slot| assert!(slots.insert(slot.as_u32())));
        (slots, more)
    }

    #[test]
    fn only_the_mark_that_queues_a_page_asks_for_a_wake() {
        let mut dirty = Dirty::new();
        let slots = [0, 1, 64, 4095, 4096].map(Slot::new);
        let asks = slots.map(|slot| dirty.page_for(slot).mark(slot));
        assert_eq!(asks, [true, false, false, false, true]);
        assert!(!dirty.is_empty());
        assert_eq!(drained(&mut dirty, 9), (BTreeSet::from([0, 1, 64, 4095, 4096]), false));
        assert!(dirty.is_empty());
        assert!(dirty.page_for(Slot::new(1)).mark(Slot::new(1)));
    }

    #[test]
    fn a_page_goes_when_no_mailbox_holds_it_and_all_its_slots_are_given_out() {
        let mut dirty = Dirty::new();
        let held = dirty.page_for(Slot::new(7));
        drop(dirty.page_for(Slot::new(4096)));
        let pages = |dirty: &Dirty| dirty.pages.iter().map(Option::is_some).collect::<Vec<_>>();
        let rounds = |dirty: &mut Dirty, next| (0..3).for_each(|_| dirty.sweep(Slot::new(next)));
        rounds(&mut dirty, 8191);
        assert_eq!(pages(&dirty), [true, true]);
        rounds(&mut dirty, 8192);
        assert_eq!(pages(&dirty), [true, false]);
        assert!(held.mark(Slot::new(7)));
        drop(held);
        rounds(&mut dirty, 8192);
        assert_eq!(pages(&dirty), [false, false]);
        assert_eq!(drained(&mut dirty, 9), (BTreeSet::new(), false), "a late mark is ignored");
    }

    proptest! {
        #[test]
        fn what_is_marked_comes_once_for_each_time(
            rounds in prop::collection::vec(
                (prop::collection::vec(0u32..20_000, 0..200), 0usize..150), 1..20,
            ),
        ) {
            let mut dirty = Dirty::new();
            let (mut marked, mut taken_early) = (BTreeSet::new(), BTreeSet::new());
            for (marks, max) in rounds {
                for slot in marks {
                    let _ = dirty.page_for(Slot::new(slot)).mark(Slot::new(slot));
                    marked.insert(slot);
                }
                // A slot of the word that is being handed out may be marked, and come, once more.
                let mut seen = 0;
                let more = dirty.drain(max, |slot| {
                    seen += 1;
                    let slot = slot.as_u32();
                    assert!(marked.remove(&slot) || taken_early.contains(&slot), "{slot}");
                    taken_early.insert(slot);
                });
                prop_assert!(seen <= max);
                prop_assert!(more || dirty.is_empty());
                if !more {
                    prop_assert!(marked.is_empty(), "{marked:?} is lost");
                    taken_early.clear();
                }
            }
            let _ = dirty.drain(usize::MAX, |slot| {
                marked.remove(&slot.as_u32());
            });
            prop_assert!(marked.is_empty() && dirty.is_empty());
        }
    }
}

#[cfg(all(test, loom))]
mod models;
