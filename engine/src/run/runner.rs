//! Runner: runs parts, factories, feeders and drops, one after another. A machine: the thread that
//! pumps it is the engine's.

use super::pool::{Pool, StartJob, Urgent};
use crate::consumer::{
    Hands, MAIL_BUDGET, Mailbox, Note, Part, Pulse, ShardLink, Start, Step, Tally, cause_text,
    contain,
};
use crate::log::LogError;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crossbeam::deque::Worker;
use crossbeam::utils::CachePadded;
use std::sync::Arc;

/// How many parts run before their shards are told of the reports: a wake costs a fence.
const RUNS_PER_WAKE: usize = 64;
/// How many ordinary runs of a batch go between two urgent tasks, when there are always more of
/// both; and how many urgent tasks between two batches: where hundreds of thousands start, in
/// factories that take their time, the others get their mail.
const RUNS_PER_URGENT: usize = 64;
const URGENT_PER_BATCH: usize = 16;

/// What a runner shows to others. Written by it alone.
#[derive(Debug, Default)]
pub(crate) struct RunnerShared {
    number: usize,
    pub(crate) pulse: Arc<Pulse>,
    counts: CachePadded<[AtomicU64; 4]>,
    /// Set by the watchdog when it put another runner in this one's place.
    replaced: AtomicBool,
}

impl RunnerShared {
    pub(super) fn new(number: usize) -> RunnerShared {
        RunnerShared { number, ..RunnerShared::default() }
    }

    /// No other runner of the pool ever has it.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn publish(&self, tally: &Tally) {
        let values = [tally.handled, tally.replayed, tally.commits, tally.mail_taken];
        for (count, value) in self.counts.iter().zip(values) {
            // Release: pairs with the acquire in `tally`, so that who sees a count sees what the
            // handlers did before it.
            count.store(value, Ordering::Release);
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        // Acquire: pairs with the release in `publish`.
        let [handled, replayed, commits, mail_taken] =
            std::array::from_fn(|index| self.counts[index].load(Ordering::Acquire));
        Tally { handled, replayed, commits, mail_taken }
    }

    pub(crate) fn is_replaced(&self) -> bool {
        // Relaxed: looked at again after the next task.
        self.replaced.load(Ordering::Relaxed)
    }

    pub(crate) fn replace(&self) {
        // Relaxed: see `is_replaced`.
        self.replaced.store(true, Ordering::Relaxed);
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Runner {
    pool: Arc<Pool>,
    shared: Arc<RunnerShared>,
    local: Worker<Arc<Mailbox>>,
    hands: Hands,
    links: Arc<[Arc<ShardLink>]>,
    /// Shards that have reports to look at, and runs since they were told. Written at each run, and
    /// so padded: the little that it takes would lie beside another thread's.
    to_wake: Vec<CachePadded<bool>>,
    runs: usize,
    runs_since_urgent: usize,
    urgent_since_batch: usize,
}

impl Runner {
    pub(crate) fn new(pool: Arc<Pool>, links: Arc<[Arc<ShardLink>]>) -> Runner {
        let local = Worker::new_fifo();
        let shared = pool.enrol(&local);
        let hands = Hands::new(links.len(), Arc::clone(&shared.pulse));
        let to_wake = vec![CachePadded::new(false); links.len()];
        Runner {
            pool,
            shared,
            local,
            hands,
            links,
            to_wake,
            runs: 0,
            runs_since_urgent: 0,
            urgent_since_batch: 0,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<RunnerShared> {
        &self.shared
    }

    /// Does one task. False: there was none. An error means that the log cannot be read, which is
    /// final for the engine.
    pub(crate) fn run_one(&mut self) -> Result<bool, LogError> {
        let between = match self.local.is_empty() {
            true => self.urgent_since_batch < URGENT_PER_BATCH,
            false => self.runs_since_urgent >= RUNS_PER_URGENT,
        };
        if between && self.run_one_urgent()? {
            return Ok(true);
        }
        self.runs_since_urgent += 1;
        let next = self.local.pop().or_else(|| {
            self.wake_shards();
            self.urgent_since_batch = 0;
            self.pool.steal_run(&self.local)
        });
        match next {
            Some(mailbox) => {
                self.run(&mailbox);
                Ok(true)
            }
            None if between => Ok(false),
            None => self.run_one_urgent(),
        }
    }

    /// False: there was none.
    fn run_one_urgent(&mut self) -> Result<bool, LogError> {
        self.runs_since_urgent = 0;
        self.urgent_since_batch += 1;
        match self.pool.steal_urgent() {
            Some(task) => self.run_urgent(task).map(|()| true),
            None => Ok(false),
        }
    }

    /// Drops one thing that is queued, if it was let go: of an engine that has failed nothing is
    /// run any more. False: there was none.
    pub(crate) fn clear_one(&mut self) -> bool {
        let next = match self.pool.steal_urgent() {
            // Its factory goes with it.
            Some(Urgent::Start(_) | Urgent::Feed(_)) => return true,
            Some(Urgent::Run(mailbox)) => Some(mailbox),
            None => self.local.pop().or_else(|| self.pool.steal_run(&self.local)),
        };
        let Some(mailbox) = next else { return false };
        let mut left = mailbox.seat().take();
        while let Some(part) = left {
            if mailbox.is_closed() {
                self.retire(&mailbox, *part, Note::Gone);
                break;
            }
            // Its shard comes to its end too, and closes and wakes it.
            left = mailbox.seat().park(part);
        }
        true
    }

    /// Sleeps until there may be work.
    pub(crate) fn rest(&mut self) {
        self.wake_shards();
        self.hands.caches.iter_mut().for_each(|cache| cache.clear());
        self.pool.rest(|| self.pool.has_work());
    }

    fn run_urgent(&mut self, task: Urgent) -> Result<(), LogError> {
        match task {
            Urgent::Run(mailbox) => self.run(&mailbox),
            Urgent::Start(job) => self.start(*job),
            Urgent::Feed(shard) => self.feed(shard)?,
        }
        Ok(())
    }

    /// Runs a consumer on what is there for it.
    fn run(&mut self, mailbox: &Arc<Mailbox>) {
        if let Some(part) = mailbox.seat().take() {
            self.run_part(mailbox, part);
        }
        self.shared.publish(&self.hands.tally);
    }

    fn run_part(&mut self, mailbox: &Arc<Mailbox>, mut part: Box<Part>) {
        let mut since = self.hands.tally.mail_taken;
        loop {
            if mailbox.is_closed() {
                return self.retire(mailbox, *part, Note::Gone);
            }
            let step = match part.run(mailbox, &mut self.hands) {
                Ok(step) => step,
                Err((offset, cause)) => {
                    return self.retire(mailbox, *part, Note::Died(offset, cause_text(cause)));
                }
            };
            self.tell_later(mailbox);
            match step {
                Step::More if !self.others_wait() => continue,
                Step::More => return self.yield_to_others(mailbox, part),
                Step::Back(member) => {
                    let link = Arc::clone(mailbox.link());
                    link.enlist(member);
                    self.pool.wake_feeder(link.shard);
                }
                Step::Idle => {}
            }
            match mailbox.seat().park(part) {
                Some(again) => part = again,
                None => return,
            }
            // More came while it ran, and may for ever.
            let taken = self.hands.tally.mail_taken;
            if taken - since >= MAIL_BUDGET as u64 {
                if self.others_wait() {
                    return self.yield_to_others(mailbox, part);
                }
                since = taken;
            }
        }
    }

    fn others_wait(&self) -> bool {
        !self.local.is_empty() || self.pool.has_work()
    }

    /// Lays a part down that has more to do, behind the others that this runner has.
    fn yield_to_others(&self, mailbox: &Arc<Mailbox>, part: Box<Part>) {
        mailbox.seat().yield_to_others(part);
        self.local.push(Arc::clone(mailbox));
    }

    /// Drops consumer and channel, and only then leaves the note (section 3: the channel is
    /// disconnected before anybody hears of the death).
    fn retire(&mut self, mailbox: &Arc<Mailbox>, part: Part, note: Note) {
        part.retire(&mut self.hands.tally);
        self.shared.publish(&self.hands.tally);
        mailbox.leave(note);
        mailbox.link().wake.notify();
    }

    fn start(&mut self, job: StartJob) {
        if job.mailbox.is_closed() {
            let StartJob { mailbox, receiver, factory, .. } = job;
            drop((factory, receiver));
            mailbox.leave(Note::Gone);
            return mailbox.link().wake.notify();
        }
        self.hands.pulse.enter(&job.mailbox);
        self.answer(job);
    }

    /// Runs a factory, and takes what it answers, however late that is.
    fn answer(&mut self, job: StartJob) {
        let StartJob { mailbox, receiver, factory, first, last_reported, inline } = job;
        let start = Start::new(&mailbox, first, last_reported);
        let result = contain(|| factory.start(&start));
        // It may be the last of a shape that is gone, and goes before anybody hears of the end.
        drop(factory);
        let result = result.and_then(|result| result.map_err(cause_text));
        self.hands.pulse.leave();
        match result {
            Ok(started) => {
                let resume = started.resume;
                mailbox.set_started();
                mailbox.set_handed(resume.complete_through());
                mailbox.raise_flushed(resume.complete_through());
                let part = Box::new(Part::new(started.consumer, receiver, resume, inline));
                mailbox.show_part(&part);
                // Parked before the note: the shard may want to take it at once.
                let again = mailbox.seat().park(part);
                mailbox.leave(Note::Started(resume));
                if let Some(part) = again {
                    self.run_part(&mailbox, part);
                }
            }
            Err(cause) => {
                drop(receiver);
                mailbox.leave(Note::NotStarted(cause));
            }
        }
        mailbox.link().wake.notify();
    }

    fn feed(&mut self, shard: usize) -> Result<(), LogError> {
        let Some(mut feeder) = self.pool.feeders[shard].take() else { return Ok(()) };
        loop {
            let more = feeder.step(&mut |mailbox| self.pool.wake(mailbox))?;
            if more {
                self.pool.feeders[shard].yield_to_others(feeder);
                self.pool.push(Urgent::Feed(shard));
                return Ok(());
            }
            match self.pool.feeders[shard].park(feeder) {
                Some(again) => feeder = again,
                None => return Ok(()),
            }
        }
    }

    /// Remembers to tell the mailbox's shard that there are reports.
    fn tell_later(&mut self, mailbox: &Arc<Mailbox>) {
        *self.to_wake[mailbox.link().shard] = true;
        self.runs += 1;
        if self.runs >= RUNS_PER_WAKE {
            self.wake_shards();
        }
    }

    fn wake_shards(&mut self) {
        self.runs = 0;
        for (link, told) in self.links.iter().zip(&mut self.to_wake) {
            if std::mem::take(&mut **told) {
                link.wake.notify();
            }
        }
    }
}

/// For who lets factories hang: time passes before one answers, and meanwhile the runner is inside.
#[cfg(all(any(test, feature = "testing"), not(loom)))]
impl Runner {
    /// Does one urgent task. If that is to make a consumer, it hangs in its factory from here on.
    pub(crate) fn run_or_hang(&mut self) -> Result<Option<Box<StartJob>>, LogError> {
        match self.pool.steal_urgent() {
            Some(Urgent::Start(job)) if !job.mailbox.is_closed() => {
                self.hands.pulse.enter(&job.mailbox);
                Ok(Some(job))
            }
            Some(task) => self.run_urgent(task).map(|()| None),
            None => Ok(None),
        }
    }

    /// The factory answers after all.
    pub(crate) fn come_back(&mut self, job: StartJob) {
        self.answer(job);
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.wake_shards();
        self.pool.dismiss(&self.local, &self.shared);
    }
}
