//! Watch: sees to consumers and threads that are still. It never waits for a worker: it reads what
//! they show, condemns consumers whose deadline has passed, asks for runners in the place of wedged
//! ones (R10), marks again what a lost mark would hide, and says what is wrong with the engine.

use super::pool::Pool;
use crate::consumer::{Ack, Inside, Mailbox, MailboxName, Pulse, Verdict};
use crate::control::{Control, Event, Holder, HolderState, Place};
use crate::sync::Arc;
use crate::words::{Lsn, Offset};
use crossbeam_channel::Receiver;
use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

/// Consumers looked at, and consumers that are new, in one tick: bounds, so that a tick stays
/// short and idle consumers cost next to nothing: 300,000 are looked at in four seconds.
const LOOKED_AT_MAX: usize = 8_192;
const ADMITTED_MAX: usize = 65_536;
/// A runner that is this long in one handler leaves what it has queued for itself to others.
const RELIEVED_AFTER: Duration = Duration::from_millis(100);
/// A runner that is this long in one handler is wedged: another one takes its place.
const WEDGED_AFTER: Duration = Duration::from_secs(1);
/// Runners that may take the place of wedged ones, for each that was asked for.
const REPLACEMENTS_MAX: usize = 16;
/// A sync that takes longer makes health red.
const SYNC_MAX: Duration = Duration::from_secs(10);
/// Time between two ticks: a part of the shortest limit, within these bounds.
const INTERVAL_PART: u32 = 8;
const INTERVAL_MIN: Duration = Duration::from_millis(2);
const INTERVAL_MAX: Duration = Duration::from_millis(100);

/// What the watch keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchLimits {
    pub(crate) consumer_deadline: Duration,
    pub(crate) factory_timeout: Duration,
    pub(crate) lease_max: Duration,
    /// Runners that were asked for.
    pub(crate) runners: usize,
}

/// A consumer that is watched.
struct Watched {
    mailbox: Weak<Mailbox>,
    flushed: Lsn,
    /// How long it has owed and been silent, in its own time.
    silent: Duration,
    /// What it has deferred since its flushed mark moved.
    lease: Duration,
    looked: Instant,
    /// That it is half-way to its deadline was said.
    said: bool,
}

/// A thread that runs handlers.
struct Heart {
    pulse: Arc<Pulse>,
    last: (u64, Option<Inside>),
    since: Instant,
}

/// See the file's head.
pub(crate) struct Watch {
    limits: WatchLimits,
    control: Arc<Control>,
    pool: Arc<Pool>,
    incoming: Receiver<Weak<Mailbox>>,
    watched: Vec<Watched>,
    next: usize,
    shards: Vec<Heart>,
    /// By number.
    runners: BTreeMap<usize, Heart>,
    flushed: (Lsn, Instant),
    /// Who was found to hold it.
    holder: Weak<Mailbox>,
}

impl Watch {
    pub(crate) fn new(
        limits: WatchLimits,
        incoming: Receiver<Weak<Mailbox>>,
        shards: Vec<Arc<Pulse>>,
        control: Arc<Control>,
        pool: Arc<Pool>,
        now: Instant,
    ) -> Watch {
        let heart = |pulse| Heart::new(pulse, now);
        let flushed = (control.flushed.global(), now);
        Watch {
            limits,
            control,
            pool,
            incoming,
            watched: Vec::new(),
            next: 0,
            shards: shards.into_iter().map(heart).collect(),
            runners: BTreeMap::new(),
            flushed,
            holder: Weak::new(),
        }
    }

    /// The time between two ticks.
    pub(crate) fn interval(&self) -> Duration {
        let shortest = self.limits.consumer_deadline.min(self.limits.factory_timeout);
        (shortest / INTERVAL_PART).clamp(INTERVAL_MIN, INTERVAL_MAX)
    }

    /// Looks at everything. How many runners shall be started in the place of wedged ones.
    pub(crate) fn tick(&mut self, now: Instant) -> usize {
        let new = self.incoming.try_iter().take(ADMITTED_MAX);
        let watched = new.map(|mailbox| Watched {
            mailbox,
            flushed: Lsn::ZERO,
            silent: Duration::ZERO,
            lease: Duration::ZERO,
            looked: now,
            said: false,
        });
        self.watched.extend(watched);
        // Once stopping, nobody is condemned: deadlines stand still (R16).
        let stopping = self.control.state.check().is_err();
        for _ in 0..LOOKED_AT_MAX.min(self.watched.len()) {
            self.look(now, stopping);
        }
        self.look_at_threads(now, stopping)
    }

    fn look(&mut self, now: Instant, stopping: bool) {
        if self.next >= self.watched.len() {
            self.next = 0;
        }
        let Some(watched) = self.watched.get_mut(self.next) else { return };
        let mailbox = watched.mailbox.upgrade().filter(|mailbox| !mailbox.is_closed());
        let Some(mailbox) = mailbox else {
            self.watched.swap_remove(self.next);
            return;
        };
        self.next += 1;
        if mailbox.has_note() {
            // The shard reads notes at once. One that lies here for two looks was not marked.
            mailbox.mark_dirty();
            mailbox.link().wake.notify();
        }
        let elapsed = now.saturating_duration_since(std::mem::replace(&mut watched.looked, now));
        let flushed = mailbox.flushed();
        if flushed > watched.flushed || mailbox.handed() <= flushed {
            watched.flushed = flushed;
            (watched.silent, watched.lease, watched.said) = (Duration::ZERO, Duration::ZERO, false);
            return;
        }
        if stopping || mailbox.waits_for_us() {
            return;
        }
        watched.lease = watched.lease.max(mailbox.take_lease() + watched.silent);
        watched.silent += elapsed;
        let lease = watched.lease.min(self.limits.lease_max);
        let deadline = self.limits.consumer_deadline.max(lease);
        if watched.silent > deadline {
            condemn(&mailbox, Verdict::Expired);
        } else if watched.silent > deadline / 2 && !watched.said {
            watched.said = true;
            let cause = format!("it owes and was silent for {:.1?}", watched.silent);
            self.control.events.say(stalled(&mailbox, cause), now);
        }
    }

    fn look_at_threads(&mut self, now: Instant, stopping: bool) -> usize {
        let runners = self.pool.runners();
        let is_there = |number: usize| runners.binary_search_by_key(&number, |r| r.number());
        self.runners.retain(|number, _| is_there(*number).is_ok());
        let mut red = None;
        let mut replacements = 0;
        let bound = self.limits.runners * REPLACEMENTS_MAX;
        // Who has come back since has ended, and its place is free again.
        let mut replaced = runners.iter().filter(|shared| shared.is_replaced()).count();
        for shared in &runners {
            let heart = self.runners.entry(shared.number());
            let heart = heart.or_insert_with(|| Heart::new(Arc::clone(&shared.pulse), now));
            let Some((who, still)) = heart.look(now) else { continue };
            if still >= RELIEVED_AFTER {
                self.pool.relieve(shared.number());
            }
            if still >= WEDGED_AFTER && !shared.is_replaced() {
                if replaced < bound {
                    shared.replace();
                    replaced += 1;
                    replacements += 1;
                } else {
                    red = Some(format!("{bound} handlers have taken the place of all runners"));
                }
            }
            if !stopping {
                condemn_stuck(&self.watched, &self.limits, who, still);
            }
        }
        for (number, heart) in self.shards.iter_mut().enumerate() {
            if let Some((_, still)) = heart.look(now).filter(|(_, still)| *still >= WEDGED_AFTER) {
                red = Some(format!("an inline consumer blocks shard {number} for {still:.1?}"));
            }
        }
        let sync = self.control.vitals.longest_sync(now);
        if let Some((shard, time)) = sync.filter(|(_, time)| *time > SYNC_MAX) {
            red = Some(format!("the sync of shard {shard} has taken {time:.1?} until now"));
        }
        let stuck = self.stuck(now);
        self.control.vitals.set_red(red.or(stuck));
        replacements
    }

    /// Sees who holds the flushed LSN where it stands still although something is not flushed.
    /// Whether it does for longer than any one consumer may hold it.
    fn stuck(&mut self, now: Instant) -> Option<String> {
        let flushed = self.control.flushed.global();
        let owes = self.control.owes();
        if flushed != self.flushed.0 || !owes {
            self.flushed = (flushed, now);
        }
        let still = now.saturating_duration_since(self.flushed.1);
        let shards = 0..self.shards.len();
        let last = shards.min_by_key(|shard| self.control.flushed.shard(*shard)).unwrap_or(0);
        // Where it moves between two looks nobody holds it, and nobody is looked for.
        let holder = if still.is_zero() { None } else { self.holder(last, still) };
        let bound = self.limits.consumer_deadline.max(self.limits.lease_max);
        let red = (still > bound).then(|| {
            let holder = match &holder {
                Some(holder) => holder.to_string(),
                None => {
                    format!("shard {last} owes, and nobody in it is seen to have been handed that")
                }
            };
            format!("the flushed LSN stands at {flushed} for {still:.1?}: {holder}")
        });
        self.control.vitals.set_holder(holder);
        red
    }

    /// Who holds the flushed LSN, if it lives: the consumer that is furthest behind, of those
    /// that it waits for in the shard `last` that is. A tick looks at some, and at who was found
    /// before.
    fn holder(&mut self, last: usize, age: Duration) -> Option<Holder> {
        let (done, to_do) = self.watched.split_at(self.next.min(self.watched.len()));
        let some = to_do.iter().chain(done).take(LOOKED_AT_MAX).map(|watched| &watched.mailbox);
        let mailboxes = some.chain([&self.holder]).filter_map(Weak::upgrade);
        let owes = mailboxes.filter(|mailbox| {
            let owes = mailbox.handed() > mailbox.flushed() && !mailbox.is_closed();
            let waits_for = |place: Place| place.ack == Ack::Consumer;
            let place = |mailbox: &Mailbox| self.control.registry.place(mailbox.name().handle);
            owes && mailbox.link().shard == last && place(mailbox).is_some_and(waits_for)
        });
        let holder = owes.min_by_key(|mailbox| mailbox.flushed());
        self.holder = holder.as_ref().map_or_else(Weak::new, Arc::downgrade);
        let mailbox = holder?;
        let MailboxName { handle, incarnation, .. } = mailbox.name();
        let (handed, flushed) = (mailbox.handed(), mailbox.flushed());
        let waits = mailbox.waits_for_us();
        let state = if waits { HolderState::Waiting } else { HolderState::Silent };
        Some(Holder { handle, incarnation, shard: last, handed, flushed, age, state })
    }
}

impl Heart {
    fn new(pulse: Arc<Pulse>, now: Instant) -> Heart {
        Heart { last: pulse.look(), pulse, since: now }
    }

    /// What the thread is inside of, and for how long it has made no call.
    fn look(&mut self, now: Instant) -> Option<(Inside, Duration)> {
        let seen = self.pulse.look();
        if seen != self.last {
            (self.last, self.since) = (seen, now);
        }
        Some((seen.1?, now.saturating_duration_since(self.since)))
    }
}

/// A consumer that a thread is inside of for too long: its handler, or its factory.
fn condemn_stuck(watched: &[Watched], limits: &WatchLimits, inside: Inside, still: Duration) {
    if still < limits.factory_timeout.min(limits.consumer_deadline) {
        return;
    }
    // A walk, for a thread that stands still for so long.
    let is_it = |mailbox: &Arc<Mailbox>| {
        let name = mailbox.name();
        // A successor is not to blame for who still hangs there.
        let found = (mailbox.link().shard, name.slot.as_u32(), name.incarnation);
        found == (inside.shard, inside.slot, inside.incarnation) && !mailbox.is_closed()
    };
    let found = watched.iter().filter_map(|watched| {
        let mailbox = watched.mailbox.upgrade().filter(is_it)?;
        // Not taken: it is not spent by who works on one delivery.
        let lease = watched.lease.max(mailbox.lease());
        Some((mailbox, lease.min(limits.lease_max)))
    });
    for (mailbox, lease) in found {
        if !mailbox.is_started() {
            if still >= limits.factory_timeout {
                condemn(&mailbox, Verdict::StartTimedOut);
            }
        } else if still >= limits.consumer_deadline.max(lease) {
            condemn(&mailbox, Verdict::Expired);
        }
    }
}

fn condemn(mailbox: &Mailbox, verdict: Verdict) {
    if mailbox.verdict() == Verdict::None {
        mailbox.condemn(verdict);
        mailbox.link().wake.notify();
    }
}

fn stalled(mailbox: &Mailbox, cause: String) -> Event {
    let offset = Offset::commit_mark(mailbox.flushed());
    Event::Stalled { handle: mailbox.name().handle, offset, cause }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::consumer::{Note, Recent, ShardLink};
    use crate::report::{Dirty, Sleeper};
    use crate::run::Runner;
    use crate::words::{Handle, Slot, View};
    use crossbeam_channel::{Sender, unbounded};

    const LONG: Duration = Duration::from_secs(1_000_000);

    struct World {
        control: Arc<Control>,
        pool: Arc<Pool>,
        watched: Sender<Weak<Mailbox>>,
        watch: Watch,
        now: Instant,
    }

    impl World {
        fn new() -> World {
            let now = Instant::now();
            let control = Arc::new(Control::new(vec![Lsn::ZERO], 1));
            let pool = Arc::new(Pool::new(Vec::new(), 1));
            let limits = WatchLimits {
                consumer_deadline: LONG,
                factory_timeout: LONG,
                lease_max: LONG,
                runners: 1,
            };
            let (watched, incoming) = unbounded();
            let (of_watch, in_pool) = (Arc::clone(&control), Arc::clone(&pool));
            let watch = Watch::new(limits, incoming, Vec::new(), of_watch, in_pool, now);
            World { control, pool, watched, watch, now }
        }

        /// A runner that hangs in a handler from now on.
        fn hangs(&self, handler: u32) -> Runner {
            let runner = Runner::new(Arc::clone(&self.pool), Arc::new([]));
            runner.shared().pulse.enter_slot(0, Slot::new(handler));
            runner
        }

        /// How many runners are asked for, after so long that each is wedged.
        fn asked_for(&mut self) -> usize {
            let asked = self.watch.tick(self.now);
            self.now += WEDGED_AFTER;
            asked + self.watch.tick(self.now)
        }

        fn is_red(&self) -> bool {
            self.control.vitals.red().is_some()
        }
    }

    #[test]
    fn r10_a_wedged_runner_is_replaced_once_and_up_to_the_bound() {
        let mut world = World::new();
        let mut wedged = vec![world.hangs(0)];
        for number in 1..=REPLACEMENTS_MAX as u32 {
            assert_eq!((world.asked_for(), world.is_red()), (1, false));
            assert_eq!(world.asked_for(), 0, "it has been replaced");
            wedged.push(world.hangs(number));
        }
        assert_eq!((world.asked_for(), world.is_red()), (0, true), "no more than the bound");
        // One that comes back ends, and its place is free.
        wedged.swap_remove(3);
        assert_eq!((world.asked_for(), world.is_red()), (1, false));
        wedged.push(world.hangs(100));
        assert_eq!((world.asked_for(), world.is_red()), (0, true));
        // For as long as they come back there is no end.
        for number in 0..3 * REPLACEMENTS_MAX as u32 {
            wedged.remove(0);
            assert_eq!((world.asked_for(), world.is_red()), (1, false));
            wedged.push(world.hangs(200 + number));
        }
        assert_eq!(world.asked_for(), 0);
        assert_eq!(world.watch.runners.len(), wedged.len(), "nothing is kept of who is gone");
    }

    /// INV9: a tick looks at some consumers, however many there are, and comes to all of them in
    /// turn. INV2: who has left a note that its shard does not know of is marked again.
    #[test]
    fn inv9_a_tick_looks_at_some_consumers_and_marks_who_has_left_a_note() {
        let mut world = World::new();
        let (_sleeper, wake) = Sleeper::new();
        let link = Arc::new(ShardLink::new(0, Recent::new(1), wake, unbounded().0));
        let mut dirty = Dirty::new();
        let mailboxes: Vec<_> = (0..2 * LOOKED_AT_MAX as u32)
            .map(|number| {
                let (handle, slot) = (Handle::new(number.into()), Slot::new(number));
                let name = MailboxName { handle, slot, incarnation: 1 };
                let named = (name, View::default(), None);
                let mailbox = Mailbox::new(named, Arc::clone(&link), dirty.page_for(slot));
                mailbox.leave(Note::Joined);
                let mailbox = Arc::new(mailbox);
                world.watched.send(Arc::downgrade(&mailbox)).unwrap();
                mailbox
            })
            .collect();
        let marked = |dirty: &mut Dirty| {
            let mut slots = Vec::new();
            dirty.drain(usize::MAX, |slot| slots.push(slot));
            slots
        };
        // These are lost.
        assert_eq!(marked(&mut dirty).len(), mailboxes.len());
        let mut found = Vec::new();
        for _ in 0..2 {
            world.watch.tick(world.now);
            let some = marked(&mut dirty);
            assert_eq!(some.len(), LOOKED_AT_MAX);
            found.extend(some);
        }
        found.sort_unstable();
        let all: Vec<_> = mailboxes.iter().map(|mailbox| mailbox.name().slot).collect();
        assert_eq!(found, all);
    }

    #[test]
    fn what_a_runner_counted_stays_when_it_is_gone() {
        let world = World::new();
        let all = |world: &World| world.pool.tally().handled;
        let runners = [1, 2, 3].map(|handled| {
            let runner = world.hangs(0);
            runner.shared().publish(&crate::consumer::Tally { handled, ..Default::default() });
            runner
        });
        assert_eq!(all(&world), 6);
        drop(runners);
        assert_eq!((all(&world), world.pool.runners().len()), (6, 0));
    }
}
