//! Waiters: who waits for something new in which shape's log, by waker and not by a thread each.
//! Readers register and look once more; the threads that sync tell whom a batch concerns; one
//! thread of the engine's own wakes these. A shard comes near it when one of its shapes ends.

use crate::consumer::contain;
use crate::sync::{AtomicUsize, Ordering, fence};
use crate::words::{Slot, Touched};
use crossbeam::utils::CachePadded;
use crossbeam_channel::{Receiver, Sender, bounded};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use smallvec::SmallVec;
use std::task::Waker;

/// So many shapes' waiters are taken out at once: meanwhile nobody can register.
const TAKEN_MAX: usize = 1_024;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Waiters {
    rooms: Box<[CachePadded<Room>]>,
    bell: Sender<()>,
    heard: Receiver<()>,
}

/// The place of one waiter among those of its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seated {
    shard: u32,
    slot: Slot,
    id: u64,
}

impl Waiters {
    pub(crate) fn new(shards: usize) -> Waiters {
        let (bell, heard) = bounded(1);
        Waiters { rooms: (0..shards).map(|_| CachePadded::default()).collect(), bell, heard }
    }

    /// Has `waker` woken, once, when there is something new for the shape in `slot`. What was
    /// there before is the caller's to find: it looks again after this. `seated` is what an earlier
    /// call has returned, to be replaced.
    pub(crate) fn register(
        &self,
        (shard, slot): (u32, Slot),
        seated: Option<Seated>,
        waker: &Waker,
    ) -> Seated {
        let id = seated.filter(|seated| (seated.shard, seated.slot) == (shard, slot));
        let id = self.rooms[shard as usize].register(slot, id.map(|seated| seated.id), waker);
        Seated { shard, slot, id }
    }

    /// Waits no longer.
    pub(crate) fn leave(&self, seated: Seated) {
        self.rooms[seated.shard as usize].leave(seated.slot, seated.id);
    }

    /// Something became readable in the log of `shard`, for these.
    pub(crate) fn tell(&self, shard: usize, news: Touched) {
        if self.rooms[shard].tell(news) {
            self.ring();
        }
    }

    /// The shape in `slot` is gone, and its readers are to hear of it.
    pub(super) fn gone(&self, shard: u32, slot: Slot) {
        let mut news = Touched::default();
        news.add_slots(&[slot]);
        self.tell(shard as usize, news);
    }

    /// Has the thread that wakes them look at everything.
    pub(super) fn ring(&self) {
        // Full: it will look anyway.
        let _ = self.bell.try_send(());
    }

    /// Waits until somebody rings.
    pub(crate) fn rest(&self) {
        // The bell is as old as its listener: there is always somebody who can ring.
        let _ = self.heard.recv();
    }

    /// Wakes whom the news concern, or `all`. Their number.
    pub(crate) fn step(&self, all: bool) -> usize {
        self.rooms.iter().map(|room| room.wake(all)).sum()
    }
}

/// The waiters of one shard.
#[derive(Debug, Default)]
struct Room {
    /// At least as many as there are in `waiting`. Raised before one comes in and lowered after it
    /// has left; read by the thread that syncs, which takes no lock while nobody waits.
    count: AtomicUsize,
    waiting: Mutex<Waiting>,
    /// What was told and not looked at yet.
    news: Mutex<Touched>,
}

#[derive(Debug, Default)]
struct Waiting {
    slots: RoaringBitmap,
    by_slot: HashMap<u32, SmallVec<[Waiter; 1]>, RandomState>,
    next_id: u64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    waker: Waker,
}

impl Room {
    fn register(&self, slot: Slot, id: Option<u64>, waker: &Waker) -> u64 {
        let (id, replaced) = self.enter(slot, id, waker.clone());
        // Partner: the fence in `tell`. Whichever comes first, either who tells finds this waiter,
        // or the look that the caller takes now finds what was told of.
        fence(Ordering::SeqCst);
        // An embedder's: dropped while no lock is held.
        drop(replaced);
        id
    }

    fn enter(&self, slot: Slot, id: Option<u64>, waker: Waker) -> (u64, Option<Waker>) {
        // Relaxed: the fence in `register` orders it.
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock();
        let Waiting { slots, by_slot, next_id } = &mut *waiting;
        let waiters = by_slot.entry(slot.as_u32()).or_default();
        if let Some(known) = waiters.iter_mut().find(|waiter| Some(waiter.id) == id) {
            let (id, replaced) = (known.id, std::mem::replace(&mut known.waker, waker));
            drop(waiting);
            self.count.fetch_sub(1, Ordering::Relaxed);
            return (id, Some(replaced));
        }
        let id = *next_id;
        *next_id += 1;
        waiters.push(Waiter { id, waker });
        slots.insert(slot.as_u32());
        (id, None)
    }

    fn leave(&self, slot: Slot, id: u64) {
        let mut waiting = self.waiting.lock();
        let Waiting { slots, by_slot, .. } = &mut *waiting;
        let Some(waiters) = by_slot.get_mut(&slot.as_u32()) else { return };
        let left = waiters.iter().position(|waiter| waiter.id == id);
        let left = left.map(|index| waiters.swap_remove(index));
        if waiters.is_empty() {
            by_slot.remove(&slot.as_u32());
            slots.remove(slot.as_u32());
        }
        drop(waiting);
        if left.is_some() {
            // Relaxed: at worst somebody is told of in vain.
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Notes the news if anybody waits, which is when the thread that wakes has something to do.
    fn tell(&self, news: Touched) -> bool {
        // Partner: the fence in `register`.
        fence(Ordering::SeqCst);
        // Relaxed: the fence orders it.
        if news.is_empty() || self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.news.lock().append(news);
        true
    }

    fn wake(&self, all: bool) -> usize {
        let news = std::mem::take(&mut *self.news.lock());
        let mut found = match all {
            true => self.waiting.lock().slots.clone(),
            false if news.is_empty() => return 0,
            false => news.among(&self.waiting.lock().slots),
        };
        let mut woken = 0;
        while !found.is_empty() {
            let taken = self.take(&mut found);
            woken += taken.len();
            for waiter in taken {
                // Code of the embedder's. A waker that panics wakes nobody, which is its own loss.
                drop(contain(move || waiter.waker.wake()));
            }
        }
        woken
    }

    /// Takes out the waiters of the first of `found`.
    fn take(&self, found: &mut RoaringBitmap) -> Vec<Waiter> {
        let mut taken = Vec::new();
        let mut waiting = self.waiting.lock();
        for slot in found.iter().take(TAKEN_MAX) {
            taken.extend(waiting.by_slot.remove(&slot).into_iter().flatten());
            waiting.slots.remove(slot);
        }
        drop(waiting);
        let last = found.select(TAKEN_MAX as u32 - 1).or_else(|| found.max());
        found.remove_range(..=last.unwrap_or(u32::MAX));
        // Relaxed: at worst somebody is told of in vain.
        self.count.fetch_sub(taken.len(), Ordering::Relaxed);
        taken
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use std::task::Wake;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker of the embedder's");
        }
    }

    fn counted() -> (Arc<Counted>, Waker) {
        let counted = Arc::new(Counted::default());
        (Arc::clone(&counted), Waker::from(counted))
    }

    fn news(slots: impl IntoIterator<Item = u32>) -> Touched {
        let mut news = Touched::default();
        slots.into_iter().for_each(|slot| news.add_slots(&[Slot::new(slot)]));
        news
    }

    fn woken(counted: &Counted) -> usize {
        counted.0.load(Ordering::Relaxed)
    }

    #[test]
    fn who_has_something_new_is_woken_once_and_nobody_else() {
        let waiters = Waiters::new(2);
        let sit = |slot, waker: &Waker| waiters.register((1, Slot::new(slot)), None, waker);
        let ((one, waker), (other, others)) = (counted(), counted());
        sit(7, &waker);
        sit(7, &others);
        sit(8, &others);
        waiters.tell(0, news([7, 8]));
        assert_eq!(waiters.step(false), 0, "another shard's slots");
        waiters.tell(1, news([6, 7, 7]));
        assert_eq!((waiters.step(false), woken(&one), woken(&other)), (2, 1, 1));
        waiters.tell(1, news([7]));
        assert_eq!(waiters.step(false), 0, "they have left");
        assert_eq!((waiters.step(true), woken(&other)), (1, 2));
        assert_eq!(waiters.rooms[1].count.load(Ordering::Relaxed), 0);
        assert!(waiters.rooms[1].waiting.lock().by_slot.is_empty());
    }

    #[test]
    fn a_waiter_that_registers_again_or_leaves_is_there_once_or_not_at_all() {
        let waiters = Waiters::new(1);
        let place = (0, Slot::new(3));
        let ((first, waker), (second, others)) = (counted(), counted());
        let seated = waiters.register(place, None, &waker);
        assert_eq!(waiters.register(place, Some(seated), &others), seated);
        waiters.gone(0, place.1);
        assert_eq!((waiters.step(false), woken(&first), woken(&second)), (1, 0, 1));
        let again = waiters.register(place, Some(seated), &waker);
        waiters.leave(seated);
        waiters.leave(again);
        waiters.leave(again);
        assert_eq!(waiters.rooms[0].count.load(Ordering::Relaxed), 0);
        assert!(waiters.rooms[0].waiting.lock().slots.is_empty());
        waiters.tell(0, news([3]));
        assert!(waiters.rooms[0].news.lock().is_empty(), "nobody waits: nothing is kept");
    }

    #[test]
    fn many_are_woken_in_slices_and_one_that_panics_costs_itself_alone() {
        let waiters = Waiters::new(1);
        let (count, waker) = counted();
        let many = 3 * TAKEN_MAX as u32 + 5;
        for slot in 0..many {
            waiters.register((0, Slot::new(slot)), None, &waker);
        }
        waiters.register((0, Slot::new(0)), None, &Waker::from(Arc::new(Panics)));
        waiters.tell(0, news(0..many - 1));
        assert_eq!(waiters.step(false), many as usize);
        assert_eq!(woken(&count), many as usize - 1);
        assert_eq!(waiters.rooms[0].count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_bell_that_rang_is_heard_afterwards() {
        let waiters = Waiters::new(1);
        waiters.ring();
        waiters.ring();
        waiters.rest();
        assert!(waiters.heard.is_empty());
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::{Arc, AtomicU64, model};
    use std::task::Wake;

    /// Remembers that it was woken. Not loom's: what orders it is not the subject.
    #[derive(Default)]
    struct Woken(Mutex<bool>);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            *self.0.lock() = true;
        }
    }

    /// One syncs twice and looks for waiters; one waits for each, by `sits`, and looks; silence.
    fn sync_and_wait(
        sits: impl Fn(&Room, &Waker, &dyn Fn() -> bool) -> bool + Send + Sync + 'static,
    ) {
        model::check(move || {
            let room = Arc::new(Room::default());
            let durable = Arc::new(AtomicU64::new(0));
            let syncer = {
                let (room, durable) = (Arc::clone(&room), Arc::clone(&durable));
                model::spawn(move || {
                    for lsn in 1..=2 {
                        // Release, as the log does it.
                        durable.store(lsn, Ordering::Release);
                        let mut news = Touched::default();
                        news.add_slots(&[Slot::new(1)]);
                        if room.tell(news) {
                            room.wake(false);
                        }
                    }
                })
            };
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let seen = durable.load(Ordering::Acquire);
            let moved = || durable.load(Ordering::Acquire) > seen;
            let sleeps = sits(&room, &waker, &moved);
            syncer.join().unwrap();
            let lost = sleeps && durable.load(Ordering::Acquire) > seen && !*woken.0.lock();
            assert!(!lost, "asleep on something new");
        });
    }

    #[test]
    fn loom_a_waiter_is_woken_or_finds_what_is_new() {
        sync_and_wait(|room, waker, moved| {
            room.register(Slot::new(1), None, waker);
            !moved()
        });
    }

    #[test]
    #[should_panic(expected = "asleep on something new")]
    fn loom_without_the_second_look_news_are_missed() {
        sync_and_wait(|room, waker, moved| {
            let sleeps = !moved();
            room.register(Slot::new(1), None, waker);
            sleeps
        });
    }

    #[test]
    #[should_panic(expected = "asleep on something new")]
    fn loom_without_the_fence_news_are_missed() {
        sync_and_wait(|room, waker, moved| {
            room.enter(Slot::new(1), None, waker.clone());
            !moved()
        });
    }
}
