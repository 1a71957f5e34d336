//! Slots: a shard's shapes by slot. Paged, because slots are never used again: pages of shapes that
//! are all gone go too (R8).

use crate::consumer::{
    Ack, Consumer, ConsumerSpec, Foreign, InlineState, Mail, Mailbox, fetch_channel,
};
use crate::control::Shape;
use crate::flush::{Moved, Owed};
use crate::snapshot::Initial;
use crate::words::{Lsn, Slot};
use crossbeam_channel::Sender;
use roaring::RoaringBitmap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Where a shape's consumer is in its life. A first start is a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// Its factory is queued or runs.
    Restarting,
    /// It is sent nothing and fed from the log (R4).
    Lagging,
    /// It is fed through the boundary that the shard named, and sent what comes after it.
    Joining,
    /// It is sent everything. A shape without a consumer is always here: its log runs.
    Running,
    /// It ended and is not made again: the engine stops, or its restart is paced.
    Dead,
    /// The shape is invalidated; its part is on its way out.
    Undeliverable,
    /// The shape is removed; its part is on its way out (R12).
    Removed,
}

impl Lifecycle {
    /// Whether deliveries go out to it now.
    pub(super) fn is_sent_to(self) -> bool {
        matches!(self, Lifecycle::Running | Lifecycle::Joining)
    }

    /// Goes to `state`. How many consumers stopped running by that: one or none.
    pub(super) fn stop(&mut self, state: Lifecycle) -> u64 {
        u64::from(std::mem::replace(self, state) == Lifecycle::Running)
    }
}

/// How deliveries reach a shape's consumer.
pub(super) enum Port {
    /// They do not: there is none, or not now.
    Closed,
    Mail(Sender<Mail>),
    Inline(Box<dyn Consumer>),
}

/// A shape in its shard. What a delivery touches; the rest is `cold`.
pub(super) struct Entry {
    pub(super) state: Lifecycle,
    pub(super) ack: Ack,
    /// Something of the open transaction was routed to it, and the commit not yet.
    pub(super) open: bool,
    /// Deaths since the flushed mark last moved.
    pub(super) deaths: u8,
    /// Its consumer has resumed below its last report, and not caught up since.
    pub(super) taken_back: bool,
    /// Some of what comes may be in the initial rows that it was given already.
    pub(super) filters: bool,
    pub(super) inline: InlineState,
    pub(super) owed: Owed,
    pub(super) port: Port,
    pub(super) mailbox: Option<Arc<Mailbox>>,
    pub(super) cold: Box<Cold>,
}

impl Entry {
    /// Its consumer has flushed everything through `flushed`.
    #[inline]
    pub(super) fn report(&mut self, flushed: Lsn) -> Moved {
        let moved = self.owed.report(flushed);
        // From where it owes, or to the end: nothing that the LSN had passed is left before it.
        self.taken_back &= moved == Moved::Nothing && flushed < self.owed.sent;
        moved
    }

    /// Whether there is a consumer beside the log, alive or not.
    pub(super) fn is_attended(&self) -> bool {
        // One without is always running, and has no mailbox.
        self.mailbox.is_some() || self.state != Lifecycle::Running
    }
}

/// What only lifecycle changes need.
pub(super) struct Cold {
    pub(super) shape: Arc<Shape>,
    /// Most of those without a consumer have nothing there.
    pub(super) beside: Option<Box<Beside>>,
}

/// What a shape may have beside its log.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) initial: Initial,
    /// Of a shape that has a consumer beside its log, or will have.
    pub(super) attended: Option<Attended>,
}

impl Cold {
    pub(super) fn new(shape: Arc<Shape>, initial: Initial, attended: Option<Attended>) -> Cold {
        let has_more = attended.is_some() || initial != Initial::None;
        Cold { shape, beside: has_more.then(|| Box::new(Beside { initial, attended })) }
    }

    pub(super) fn initial(&self) -> &Initial {
        self.beside.as_ref().map_or(&Initial::None, |beside| &beside.initial)
    }

    pub(super) fn attended(&self) -> Option<&Attended> {
        self.beside.as_ref()?.attended.as_ref()
    }

    /// The number of its consumer's last incarnation; 0 before the first.
    pub(super) fn incarnation(&self) -> u64 {
        self.attended().map_or(0, |attended| attended.incarnation)
    }
}

/// How a shape's consumer is made, and what became of it.
pub(super) struct Attended {
    pub(super) consumer: Foreign<ConsumerSpec>,
    pub(super) incarnation: u64,
    /// Earlier incarnations whose factory was given up and may not have come back yet (R9). As many
    /// as hung since one was found to have.
    pub(super) hung: Vec<Arc<Mailbox>>,
}

// Entries lie side by side and are walked in order, so a fan-out reads what they take and no more.
const _: () = assert!(size_of::<Entry>() <= 72, "a fan-out is bound by the bytes that it touches");
const _: () = assert!(size_of::<Cold>() <= 16, "it is there once a shape");

const PAGE_SLOTS: usize = 1_024;
/// Of so many words' neighbours the mailboxes are read ahead: few enough to be in the cache still
/// when their turn comes.
const AHEAD_WORDS: usize = 4;

/// Where a shape's mailbox lies. First mailboxes are made in the order of their slots, and a core
/// that sees memory being read in order reads on ahead by itself. One that came with a restart lies
/// anywhere, and seems to interrupt that. So whoever visits many visits the ones that lie in order,
/// and then the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    InOrder,
    Anywhere,
}

struct Page {
    living: usize,
    entries: Box<[Option<Entry>]>,
    /// A bit for each slot whose mailbox does not lie beside those of its neighbours.
    moved: [u64; PAGE_SLOTS / 64],
}

impl Page {
    fn empty() -> Page {
        let entries = (0..PAGE_SLOTS).map(|_| None).collect();
        Page { living: 0, entries, moved: [0; PAGE_SLOTS / 64] }
    }

    /// Which of a word's places, from `from` to `to` of the page, hold a shape that lies so.
    fn lying(&self, lie: Lie, word: usize, (from, to): (usize, usize)) -> u64 {
        let moved = self.moved[word];
        let lying = if lie == Lie::InOrder { !moved } else { moved };
        let (first, last) = (from.saturating_sub(word * 64), (to - word * 64).min(63));
        lying & u64::MAX << first & u64::MAX >> (63 - last)
    }

    /// Reads what sends look at, of mailboxes that lie anywhere in the `AHEAD_WORDS` from `word`.
    fn fetch_ahead(&self, word: usize, places: (usize, usize)) {
        let last = (word + AHEAD_WORDS - 1).min(places.1 / 64);
        let mut sum = 0;
        for word in word..=last {
            for place in places_of(word, self.lying(Lie::Anywhere, word, places)) {
                let Some(entry) = &self.entries[place] else { continue };
                let (Port::Mail(sender), Some(mailbox)) = (&entry.port, &entry.mailbox) else {
                    continue;
                };
                sum += fetch_channel(sender) + mailbox.fetch_word();
            }
        }
        std::hint::black_box(sum);
    }
}

/// The page's places that a word's bits stand for.
fn places_of(word: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}

/// See the file's head.
#[derive(Default)]
pub(super) struct Slots {
    pages: Vec<Option<Page>>,
    living: usize,
    /// Some mailbox came with a restart.
    have_moved: bool,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.living
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        let page = self.pages.get_mut(slot.index() / PAGE_SLOTS)?.as_mut()?;
        page.entries[slot.index() % PAGE_SLOTS].as_mut()
    }

    /// Calls `visit` for each living shape in `set` and `tile`: in order those whose mailboxes lie
    /// so, then the others.
    #[inline]
    pub(super) fn visit(
        &mut self,
        set: &RoaringBitmap,
        tile: &RangeInclusive<u32>,
        mut visit: impl FnMut(Slot, &mut Entry),
    ) {
        for lie in [Lie::InOrder, Lie::Anywhere] {
            if lie == Lie::Anywhere && !self.have_moved {
                break;
            }
            let mut of_tile = set.range(tile.clone());
            while let Some(range) = of_tile.next_range() {
                self.visit_range(range, lie, &mut visit);
            }
        }
    }

    /// Calls `visit` for each living shape in `range` whose mailbox lies so, in order.
    #[inline]
    fn visit_range(
        &mut self,
        range: RangeInclusive<u32>,
        lie: Lie,
        mut visit: impl FnMut(Slot, &mut Entry),
    ) {
        let (first, last) = (*range.start() as usize, *range.end() as usize);
        for number in first / PAGE_SLOTS..=last / PAGE_SLOTS {
            let Some(page) = self.pages.get_mut(number) else { return };
            let Some(page) = page else { continue };
            let base = number * PAGE_SLOTS;
            let places = (first.saturating_sub(base), (last - base).min(PAGE_SLOTS - 1));
            let words = places.0 / 64..=places.1 / 64;
            for (count, word) in words.enumerate() {
                if lie == Lie::Anywhere && count % AHEAD_WORDS == 0 {
                    page.fetch_ahead(word, places);
                }
                for place in places_of(word, page.lying(lie, word, places)) {
                    if let Some(entry) = &mut page.entries[place] {
                        visit(Slot::new((base + place) as u32), entry);
                    }
                }
            }
        }
    }

    /// Notes that the mailbox of `slot` is a later one. See `Page::fetch_ahead`.
    pub(super) fn note_moved(&mut self, slot: Slot) {
        if let Some(Some(page)) = self.pages.get_mut(slot.index() / PAGE_SLOTS) {
            page.moved[slot.index() % PAGE_SLOTS / 64] |= 1 << (slot.index() % 64);
            self.have_moved = true;
        }
    }

    pub(super) fn insert(&mut self, slot: Slot, entry: Entry) {
        let number = slot.index() / PAGE_SLOTS;
        if self.pages.len() <= number {
            self.pages.resize_with(number + 1, || None);
        }
        let page = self.pages[number].get_or_insert_with(Page::empty);
        let place = &mut page.entries[slot.index() % PAGE_SLOTS];
        assert!(place.is_none(), "slot {slot} is in use: a slot is never used again");
        *place = Some(entry);
        page.living += 1;
        self.living += 1;
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Entry> {
        let place = self.pages.get_mut(slot.index() / PAGE_SLOTS)?;
        let page = place.as_mut()?;
        let entry = page.entries[slot.index() % PAGE_SLOTS].take()?;
        page.living -= 1;
        self.living -= 1;
        if page.living == 0 {
            *place = None;
        }
        Some(entry)
    }

    /// The living slots among the `count` after `from`, and where to go on (wraps around).
    pub(super) fn slice(&self, from: usize, count: usize) -> (Vec<Slot>, usize) {
        let end = self.pages.len() * PAGE_SLOTS;
        let to = (from + count).min(end);
        let living = |slot: &Slot| {
            let page = self.pages[slot.index() / PAGE_SLOTS].as_ref();
            page.is_some_and(|page| page.entries[slot.index() % PAGE_SLOTS].is_some())
        };
        let found = (from..to).map(|index| Slot::new(index as u32)).filter(living).collect();
        (found, if to == end { 0 } else { to })
    }

    /// All living slots. A walk: for shutdown and for what ends every shape.
    pub(super) fn all(&self) -> Vec<Slot> {
        self.slice(0, self.pages.len() * PAGE_SLOTS).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Definition;
    use crate::predicate::Predicate;
    use crate::words::{Handle, Offset, Relation, ShapeDefinition, TableName, View};

    fn entry(handle: u64) -> Entry {
        let table = TableName::new("public", "items");
        let definition = Arc::new(ShapeDefinition::table(table.clone()));
        let relation = Relation::new(1, table, Vec::new());
        let shape = Arc::new(Shape {
            handle: Handle::new(handle),
            shard: 0,
            slot: Slot::new(0),
            first: Offset::ZERO,
            definition: Definition::new(&definition, &relation),
            relation: Arc::new(relation),
            predicate: Predicate::ALWAYS,
            view: View::default(),
            ack: Ack::Log,
        });
        Entry {
            state: Lifecycle::Running,
            ack: Ack::Log,
            open: false,
            deaths: 0,
            taken_back: false,
            filters: false,
            inline: InlineState::default(),
            owed: Owed::default(),
            port: Port::Closed,
            mailbox: None,
            cold: Box::new(Cold::new(shape, Initial::None, None)),
        }
    }

    #[test]
    fn each_shape_in_a_range_is_visited_once_those_that_moved_after_the_others() {
        let mut slots = Slots::default();
        (0..2_050).for_each(|number| slots.insert(Slot::new(number), entry(number.into())));
        let moved = [0, 63, 64, 700, 1_023, 1_024, 2_049].map(Slot::new);
        let holes: RoaringBitmap = (0..2_050).filter(|slot| slot % 5 != 2).collect();
        for set in [RoaringBitmap::full(), holes] {
            for (first, last) in [(0, u32::MAX), (0, 63), (63, 64), (65, 699), (900, 2_049)] {
                let mut visited = Vec::new();
                slots.visit(&set, &(first..=last), |slot, _| visited.push(slot));
                let all = (first..=last.min(2_049)).filter(|slot| set.contains(*slot));
                let is_moved = |slot: &Slot| slots.have_moved && moved.contains(slot);
                let (after, before): (Vec<_>, Vec<_>) = all.map(Slot::new).partition(is_moved);
                assert_eq!(visited, [before, after].concat(), "{first} to {last}");
            }
            moved.iter().for_each(|slot| slots.note_moved(*slot));
        }
    }

    #[test]
    fn pages_of_gone_shapes_go_and_the_others_stay() {
        let mut slots = Slots::default();
        for number in 0..2_050 {
            slots.insert(Slot::new(number), entry(number.into()));
        }
        for number in 0..1_024 {
            assert!(slots.remove(Slot::new(number)).is_some());
            assert!(slots.remove(Slot::new(number)).is_none(), "removal is idempotent (INV5)");
        }
        assert!(slots.pages[0].is_none() && slots.pages[1].is_some());
        assert_eq!(slots.len(), 1_026);
        assert_eq!(slots.all().len(), 1_026);
        assert_eq!(slots.get_mut(Slot::new(2_049)).unwrap().cold.shape.handle, Handle::new(2_049));
        let (slice, next) = slots.slice(1_020, 8);
        assert_eq!((slice.len(), next), (4, 1_028));
        assert_eq!(slots.slice(2_048, 4_096).1, 0);
    }
}
