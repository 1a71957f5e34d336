//! Thin: frees what the old part of a shard's log holds for shapes that have more than their quota
//! of it, or are gone (R15). A machine, a block a step: first it weighs what each shape has, from
//! the newest block to the oldest; then it writes what is kept into one new file, which takes the
//! place of the old ones. Readers, the syncer and the shard go on meanwhile.
//!
//! There is one thinned file, the log's first. It is written anew with what comes next, when that
//! is a part of it worth the work; so a byte that is kept for long is written a few times.

use super::decode::{Limit, Logged};
use super::quota::Quota;
use super::rewrite::{Item, Rewrite, Stopped, items};
use super::segments::{Files, Whole};
use super::store::{Log, LogError};
use super::thinned::{Cuts, Starts, Thinned};
use roaring::RoaringBitmap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What is thinned newly is at least this part of the thinned file: so many bytes are written,
/// about, for each that is kept.
const WORTH_PART: u64 = 4;
/// By age the file is written anew this often in the time that is kept, whatever comes.
const AGE_PARTS: u32 = 8;

/// What of a shard's log is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Beyond these bytes of files the oldest are thinned.
    pub(crate) bytes_max: u64,
    /// And those that were written to last so long ago.
    pub(crate) age_max: Option<Duration>,
    /// What each shape keeps of thinned files: so many bytes, its newest.
    pub(crate) shape_bytes: u64,
    /// And while its initial rows are being loaded: what follows them is of no use with a gap.
    pub(crate) loading_bytes: u64,
}

/// What a step has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is nothing to do now.
    Rest,
    /// There is more to do.
    More,
    /// Files were thinned: so many bytes less are held.
    Freed(u64),
}

/// See the file's head.
pub(crate) struct Thinner {
    log: Arc<Log>,
    files: Files,
    retention: Retention,
    block_bytes_max: usize,
    work: Work,
    /// So many bytes were looked at, and nothing was gained.
    in_vain: u64,
    /// Which of two files the first one is after a power cut is not known: nothing more is thinned.
    gave_up: bool,
}

enum Work {
    Rest,
    Weigh(Box<Weighing>),
    Write(Box<Writing>),
}

/// What passes a limit.
struct Due {
    files: usize,
    /// Some of it for so long that it is thinned whatever that is worth.
    overdue: bool,
}

/// What is to be thinned.
struct Plan {
    /// Positions and lengths, the oldest first.
    blocks: Vec<(u64, u64)>,
    limit: Limit,
    living: RoaringBitmap,
    /// Those of which more stays.
    held: RoaringBitmap,
    front: Thinned,
    /// Where the files begin that were not thinned yet.
    from: u64,
    /// The bytes of the files.
    bytes: u64,
}

struct Weighing {
    plan: Plan,
    quota: Quota,
    /// Blocks that are left.
    left: usize,
}

struct Writing {
    plan: Plan,
    rewrite: Rewrite,
    /// The next block.
    next: usize,
    keeping: RoaringBitmap,
    /// Who was cut in each block, the oldest last.
    cut: Vec<RoaringBitmap>,
    starts: Starts,
}

impl Thinner {
    /// Blocks that it writes are closed when they pass `block_bytes_max`.
    pub(crate) fn new(
        log: Arc<Log>,
        files: Files,
        retention: Retention,
        block_bytes_max: usize,
    ) -> Thinner {
        let work = Work::Rest;
        Thinner { log, files, retention, block_bytes_max, work, in_vain: 0, gave_up: false }
    }

    /// One step, at `now` since 1970. After an error the log is as it was, and the next step begins
    /// anew.
    pub(crate) fn step(&mut self, now: Duration) -> Result<Step, LogError> {
        match std::mem::replace(&mut self.work, Work::Rest) {
            Work::Rest => {
                let Some(plan) = self.plan(now)? else { return Ok(Step::Rest) };
                let Retention { shape_bytes, loading_bytes, .. } = self.retention;
                let held = (plan.held.clone(), loading_bytes);
                let quota = Quota::new(plan.living.clone(), shape_bytes, held);
                let left = plan.blocks.len();
                self.work = Work::Weigh(Box::new(Weighing { plan, quota, left }));
                Ok(Step::More)
            }
            Work::Weigh(weighing) => self.weigh(weighing),
            Work::Write(writing) => self.write(writing),
        }
    }

    /// What the thinned file says of itself, if there is one.
    #[cfg(test)]
    pub(super) fn front(&self) -> Option<Thinned> {
        self.files.front().map(|(front, _)| front)
    }

    /// The bytes of the shard's files.
    fn bytes(&self) -> u64 {
        let front = self.files.front();
        let (thinned, next) = front.map_or((0, 0), |(front, bytes)| (bytes, front.next));
        thinned + self.log.index().read().end_byte().saturating_sub(next)
    }

    /// What is due to be thinned, and can be.
    fn plan(&self, now: Duration) -> Result<Option<Plan>, LogError> {
        let (whole, front) = (self.files.whole(), self.files.front());
        let (thinned, from) = front.map_or((0, 0), |(front, bytes)| (bytes, front.next));
        let Due { files, overdue } = self.due(&whole, from, now);
        let Some(before) = files.checked_sub(1).filter(|_| !self.gave_up) else { return Ok(None) };
        let is_worth = |next: u64| {
            let new = next - from;
            let is_much = |than: u64| new > than + than / WORTH_PART;
            (overdue || new >= thinned / WORTH_PART) && is_much(self.in_vain)
        };
        let index = self.log.index().read();
        let owed_above = self.log.claims().owed_above();
        let can_end = |file: &&Whole| {
            index.is_complete(file.number, file.next, owed_above) && is_worth(file.next)
        };
        // As many as are due or the next more, else as many as can be.
        let first_behind = whole.iter().skip(before).find(can_end);
        let last = first_behind.or_else(|| whole.iter().take(before).rfind(can_end));
        let Some(last) = last else { return Ok(None) };
        let (mut blocks, last_commit, limit) = index.before(last.number);
        drop(index);
        for file in whole.iter().take_while(|file| file.number <= last.number) {
            blocks.extend(self.log.sealed_blocks(file.number)?);
        }
        let none =
            Thinned { last: 0, next: 0, seq: 0, last_commit, next_slot: 0, max_handle: None };
        let known = front.map_or(none, |(front, _)| front);
        let last_commit = known.last_commit.max(last_commit);
        let front = Thinned { last: last.number, next: last.next, last_commit, ..known };
        // After the index: whoever was added in these files is among them.
        let (living, held) = self.log.claims().shapes();
        let bytes = thinned + (last.next - from);
        Ok(Some(Plan { blocks, limit, living, held, front, from, bytes }))
    }

    /// How many of the files that are whole pass a limit. They begin at byte `from`.
    fn due(&self, whole: &[Whole], from: u64, now: Duration) -> Due {
        let Retention { bytes_max, age_max, .. } = self.retention;
        let bytes = self.bytes();
        let is_within = |next: u64| bytes.saturating_sub(next - from) <= bytes_max;
        let excess = match whole.iter().position(|file| is_within(file.next)) {
            _ if is_within(from) => 0,
            Some(last) => last + 1,
            None => whole.len(),
        };
        let is_older = |file: &&Whole, age: Duration| {
            let modified = self.files.modified(file.number);
            modified.is_ok_and(|modified| now.saturating_sub(modified) >= age)
        };
        let aged = |age| whole.iter().take_while(|file| is_older(file, age)).count();
        let aged_files = age_max.map_or(0, aged);
        let overdue = age_max.is_some_and(|age| aged(age + age / AGE_PARTS) > 0);
        Due { files: excess.max(aged_files), overdue }
    }

    fn items(&self, plan: &mut Plan, block: usize) -> Result<Vec<Item>, LogError> {
        let Some(&(position, len)) = plan.blocks.get(block) else { return Ok(Vec::new()) };
        let bytes = self.log.bytes_at(position, len)?;
        let seq = plan.front.seq;
        let items = items(&bytes, position, self.log.seed(), &plan.limit, &mut plan.front);
        if position < plan.from {
            // Batches of the thinned file are numbered by themselves.
            plan.front.seq = seq;
        }
        items.map_err(|damage| self.log.damaged(damage))
    }

    fn weigh(&mut self, mut weighing: Box<Weighing>) -> Result<Step, LogError> {
        if let Some(block) = weighing.left.checked_sub(1) {
            let items = self.items(&mut weighing.plan, block)?;
            let entries = items.into_iter().filter_map(|item| match item {
                Item::Entry(logged) => Some(logged),
                Item::Add(..) => None,
            });
            weighing.quota.block(&entries.collect::<Vec<Logged>>());
            weighing.left = block;
            self.work = Work::Weigh(weighing);
            return Ok(Step::More);
        }
        let Weighing { plan, quota, .. } = *weighing;
        let (keeping, cut, newly) = quota.finish();
        let starts = self.log.index().read().cuts().with(newly, &plan.living);
        let file = self.files.create().map_err(|source| self.failed("beginning", source))?;
        let identity = self.files.identity();
        match Rewrite::new(file, identity, plan.front, &starts, self.block_bytes_max) {
            Ok(rewrite) => {
                let writing = Writing { plan, rewrite, next: 0, keeping, cut, starts };
                self.work = Work::Write(Box::new(writing));
                Ok(Step::More)
            }
            Err(stopped) => self.stopped(stopped, plan.front),
        }
    }

    fn write(&mut self, mut writing: Box<Writing>) -> Result<Step, LogError> {
        let block = writing.next;
        if block < writing.plan.blocks.len() {
            let items = self.items(&mut writing.plan, block);
            let items = items.inspect_err(|_| self.files.discard())?;
            let Writing { plan, rewrite, keeping, .. } = &mut *writing;
            if let Err(stopped) = rewrite.block(&items, &plan.living, keeping) {
                return self.stopped(stopped, plan.front);
            }
            // They were cut in this block, and keep what comes after it.
            writing.keeping |= writing.cut.pop().unwrap_or_default();
            writing.next += 1;
            self.work = Work::Write(writing);
            return Ok(Step::More);
        }
        let Writing { plan, rewrite, starts, .. } = *writing;
        let (file, index, len) = match rewrite.finish() {
            Ok((.., len)) if len >= plan.bytes => {
                return self.stopped(Stopped::NothingGained, plan.front);
            }
            Ok(written) => written,
            Err(stopped) => return self.stopped(stopped, plan.front),
        };
        if let Err(source) = self.files.rename() {
            // It may have its name or not. Either way the log is whole, here and after a power cut;
            // but what is on the disk is not known any more.
            self.gave_up = true;
            return Err(self.failed("renaming", source));
        }
        let gone = {
            let mut known = self.log.index().write();
            let gone = self.files.replace(file.reader(), len, plan.front);
            known.replace(&plan.front, index, Cuts::new(&starts));
            gone
        };
        let first = self.log.index().read().first_behind_front();
        self.log.cache().forget_thinned(first);
        self.files.remove(gone);
        self.in_vain = 0;
        Ok(Step::Freed(plan.bytes - len))
    }

    /// The new file is not wanted.
    fn stopped(&mut self, stopped: Stopped, front: Thinned) -> Result<Step, LogError> {
        self.files.discard();
        match stopped {
            Stopped::NothingGained => {
                let from = self.files.front().map_or(0, |(front, _)| front.next);
                self.in_vain = front.next - from;
                Ok(Step::Rest)
            }
            Stopped::Io(source) => Err(self.failed("writing", source)),
        }
    }

    fn failed(&self, what: &'static str, source: io::Error) -> LogError {
        LogError::NotThinned { file: self.files.name(), what, source }
    }
}
