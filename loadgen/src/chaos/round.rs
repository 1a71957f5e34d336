//! Round: lives of one directory, one after the other, brought down as the round's kind says, and a
//! last one that settles. Everything about it but the moments is drawn from its seed.

use super::disk::SmallDisk;
use super::journal::Journal;
use super::ledger::{Ledger, Stopped};
use super::plan::{Draw, Kind, Load, Plan, Role, Task};
use super::process::Process;
use crate::scenario::Scenario;
use crate::workload::Workload;
use std::path::Path;
use std::time::Duration;
use walfan::Lsn;

/// How long a life may take for what it must do.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long it may take until there is no room, or no handle for the next file; then the life is
/// killed like any other.
const FAIL_MAX: Duration = Duration::from_secs(20);
/// The same where the handles may just be enough.
const ENOUGH_MAX: Duration = Duration::from_secs(2);
/// What the engine gives threads that end by themselves, and what a busy machine adds.
const STOP_GRACE_MS: u64 = 4_000;
/// Logs that are read in full.
const SAMPLE: u64 = 24;
/// Runners that are made for each wedged one that was asked for, and the first one itself.
const RUNNERS_WEDGED: u64 = 17;

/// What a round did.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lives: u64,
    pub(super) transactions: u64,
    pub(super) logs: u64,
    pub(super) changes: u64,
    /// What stopped the engine, where it was not the parent.
    pub(super) cause: String,
}

/// See the file's head.
pub(super) struct Round<'a> {
    kind: Kind,
    draw: Draw,
    plan: Plan,
    ledger: Ledger,
    disk: Option<SmallDisk>,
    tally: Tally,
    place: &'a Path,
}

impl<'a> Round<'a> {
    /// A round in `place`, which is empty. `mounts`: whether a small disk can be had.
    pub(super) fn new(
        place: &'a Path,
        seed: u64,
        kind: Kind,
        shapes: u32,
        mounts: bool,
    ) -> Result<Round<'a>, String> {
        let mut draw = Draw::new(seed);
        let many = kind == Kind::NoHandles && draw.one_in(2);
        let scenarios = [Scenario::Crash, Scenario::Fanout, Scenario::Scatter, Scenario::Disjoint];
        let scenario = match kind {
            // Where every shape is met soon.
            Kind::Wedged => Scenario::Crash,
            _ => scenarios[draw.below(4) as usize],
        };
        let disk = match kind == Kind::FullDisk && mounts && !draw.one_in(3) {
            true => Some(SmallDisk::mount(&place.join("disk")).map_err(|e| e.to_string())?),
            false => None,
        };
        let directory = place.join("disk").join("store");
        let plan = Plan {
            directory,
            journal: place.join("journal"),
            scenario,
            // So large are transactions that a segment is soon full.
            shapes: if many { 8 } else { shapes },
            changes: if many { 500 } else { draw.between(1, 4) as u32 },
            seed,
            shards: draw.between(1, 3) as usize,
            runners: if kind == Kind::Wedged { 1 } else { draw.between(1, 3) as usize },
            deadline_ms: if kind == Kind::Wedged { 700 } else { 60_000 },
            stop_ms: if kind == Kind::Wedged { 1_500 } else { 10_000 },
            handles: Vec::new(),
            task: Task::Found,
        };
        Journal::make(&plan.journal, plan.shapes).map_err(|error| error.to_string())?;
        let ledger = Ledger::new(&plan);
        Ok(Round { kind, draw, plan, ledger, disk, tally: Tally::default(), place })
    }

    /// Runs it; an error is a violation.
    pub(super) fn run(mut self) -> Result<Tally, String> {
        self.found()?;
        let before = if self.kind == Kind::Kill { 2 } else { self.draw.below(2) };
        for _ in 0..before {
            self.killed()?;
        }
        match self.kind {
            Kind::Kill => self.killed()?,
            Kind::Terminate => self.terminated()?,
            Kind::FullDisk => self.full()?,
            Kind::NoHandles => self.no_handles()?,
            Kind::Wedged => self.wedged()?,
        }
        if self.draw.one_in(3) {
            // Also who settles is killed.
            let task = self.settling();
            let life = self.start(task)?;
            let time = Duration::from_millis(self.draw.below(200));
            life.hear(&mut self.ledger, time, |_| false)?;
            self.bring_down(life)?;
        }
        self.settle()
    }

    fn start(&mut self, task: Task) -> Result<Process, String> {
        self.tally.lives += 1;
        self.plan.task = task;
        Process::start(&self.plan, &mut self.ledger)
    }

    fn found(&mut self) -> Result<(), String> {
        let life = self.start(Task::Found)?;
        life.end(&mut self.ledger)?;
        let handles = self.ledger.life.handles.take();
        self.plan.handles = handles.ok_or("no shapes were added")?;
        Ok(())
    }

    fn ordinary(&mut self) -> Load {
        let deaths = if self.draw.one_in(2) { 0 } else { self.draw.between(500, 5_000) };
        Load { deaths, window: self.draw.between(1, 256), ..Load::default() }
    }

    /// A life under load that is killed: one in four at a moment of its start.
    fn killed(&mut self) -> Result<(), String> {
        let load = self.ordinary();
        let life = self.start(Task::Load(load))?;
        if self.draw.one_in(4) {
            let time = Duration::from_millis(self.draw.below(40));
            life.hear(&mut self.ledger, time, |_| false)?;
        } else {
            self.run_for(&life, 1, 350)?;
        }
        self.bring_down(life)
    }

    /// Lets a life run for some time from when it is open.
    fn run_for(&mut self, life: &Process, low_ms: u64, high_ms: u64) -> Result<(), String> {
        if !life.hear(&mut self.ledger, PATIENCE, |ledger| ledger.life.opened)? {
            return Err(self.never("open"));
        }
        let time = Duration::from_millis(self.draw.between(low_ms, high_ms));
        life.hear(&mut self.ledger, time, |_| false)?;
        self.healthy()
    }

    /// Nothing is wrong with a life to which nothing was done.
    fn healthy(&self) -> Result<(), String> {
        let life = &self.ledger.life;
        let wrong = life.refused.as_ref().or(life.failed.as_ref());
        wrong.map_or(Ok(()), |cause| Err(format!("the engine fails for no reason: {cause}")))
    }

    fn never(&self, what: &str) -> String {
        let life = &self.ledger.life;
        format!("{} s have passed, and it does not {what}: {life:?}", PATIENCE.as_secs())
    }

    /// Kills a life, and looks at what it leaves behind.
    fn bring_down(&mut self, life: Process) -> Result<(), String> {
        if !life.kill(&mut self.ledger)? {
            self.healthy()?;
        }
        self.look_at_journal(false)
    }

    fn look_at_journal(&mut self, all: bool) -> Result<(), String> {
        let draw = self.draw.below(u64::MAX);
        self.ledger.check_journal(&self.plan, draw, all)
    }

    fn terminated(&mut self) -> Result<(), String> {
        let load = self.ordinary();
        let life = self.start(Task::Load(load))?;
        self.run_for(&life, 1, 350)?;
        // An earlier life that was killed may have come further.
        let published = self.ledger.life.published;
        let Stopped { flushed, owing, wedged, .. } = self.stop(life)?;
        let last = published.checked_sub(1).map_or(0, |last| Workload::lsn(last).as_u64());
        if owing == 0 && flushed.iter().any(|flushed| *flushed < last) {
            return Err(format!(
                "{published} transactions were published, nobody owes, and the shards have flushed \
                 {flushed:?}"
            ));
        }
        if !wedged.is_empty() {
            return Err(format!("nobody was wedged, and {wedged:?} were left behind"));
        }
        self.look_at_journal(false)
    }

    /// Asks a life to end, and sees that it does within its deadline.
    fn stop(&mut self, life: Process) -> Result<Stopped, String> {
        life.terminate()?;
        life.end(&mut self.ledger)?;
        let stopped = self.ledger.life.stopped.take().ok_or("it ended and did not say how")?;
        if stopped.ms > self.plan.stop_ms + STOP_GRACE_MS {
            let given = self.plan.stop_ms;
            return Err(format!("stopping took {} ms, and {given} were given", stopped.ms));
        }
        Ok(stopped)
    }

    fn full(&mut self) -> Result<(), String> {
        let mut load = self.ordinary();
        let room = self.draw.between(16 << 10, 512 << 10);
        match &self.disk {
            Some(disk) => disk.fill(room).map_err(|error| format!("the small disk: {error}"))?,
            None => load.file_growth_max = Some(room),
        }
        self.fails(load.clone(), FAIL_MAX)?;
        if self.disk.is_some() && self.draw.one_in(2) {
            // Started again before there is room.
            self.fails(load, FAIL_MAX)?;
        }
        match &self.disk {
            Some(disk) => disk.empty().map_err(|error| format!("the small disk: {error}")),
            None => Ok(()),
        }
    }

    fn no_handles(&mut self) -> Result<(), String> {
        let mut load = self.ordinary();
        if self.plan.changes < 100 {
            load.handles_max = Some(self.draw.between(6, 24));
            return self.fails(load, ENOUGH_MAX);
        }
        load.no_more_handles = true;
        self.fails(load, FAIL_MAX)
    }

    /// A life whose engine does not start, or fails, and says so; or goes on with what it has, and
    /// is killed.
    fn fails(&mut self, load: Load, time: Duration) -> Result<(), String> {
        let life = self.start(Task::Load(load))?;
        let said = |ledger: &Ledger| ledger.life.refused.is_some() || ledger.life.failed.is_some();
        let failed = life.hear(&mut self.ledger, time, said)?;
        if failed {
            life.end(&mut self.ledger)?;
            let told = &self.ledger.life;
            let cause = told.refused.clone().or(told.failed.clone()).unwrap_or_default();
            if cause.is_empty() {
                return Err("the engine failed and did not say why".into());
            }
            let here = self.place.display().to_string();
            self.tally.cause = cause.replace(&here, "");
            return self.look_at_journal(false);
        }
        if life.kill(&mut self.ledger)? {
            return self.look_at_journal(false);
        }
        Err("the process ended and said nothing".into())
    }

    /// As many wedged consumers as there are runners, or more than are ever replaced.
    fn wedged(&mut self) -> Result<(), String> {
        let runners = self.plan.runners as u64;
        let mailboxes = |shape: &u32| matches!(Role::of(*shape), Role::Mailbox(_));
        let mut shapes: Vec<u32> = (0..self.plan.shapes).filter(mailboxes).collect();
        let all = self.draw.one_in(2);
        let wanted = if all { runners * RUNNERS_WEDGED + 2 } else { runners + self.draw.below(3) };
        let wedge = (0..wanted.min(shapes.len() as u64)).map(|_| {
            let place = self.draw.below(shapes.len() as u64) as usize;
            shapes.swap_remove(place)
        });
        let wedge: Vec<u32> = wedge.collect();
        self.ledger.may_go.extend(&wedge);
        let count = wedge.len();
        let load = Load { wedge, window: self.draw.between(16, 64), ..self.ordinary() };
        let life = self.start(Task::Load(load))?;
        let what = if all { "turn health red" } else { "go on without the wedged" };
        let (before, enough) = (self.ledger.flushed, |ledger: &Ledger| ledger.life.red.is_some());
        let done = if all {
            life.hear(&mut self.ledger, PATIENCE, enough)?
        } else {
            let step = 100 * (Workload::lsn(1).as_u64() - Workload::lsn(0).as_u64());
            life.hear(&mut self.ledger, PATIENCE, |ledger| {
                let base = before.max(Workload::lsn(0).as_u64());
                ledger.gone.len() >= count && ledger.life.flushed > base + step
            })?
        };
        if !done {
            return Err(self.never(what));
        }
        self.tally.cause = self.ledger.life.red.clone().unwrap_or_default();
        if self.draw.one_in(2) {
            return self.bring_down(life);
        }
        if self.stop(life)?.wedged.is_empty() {
            return Err("wedged handlers were left behind, and none was named".into());
        }
        self.look_at_journal(false)
    }

    fn settling(&mut self) -> Task {
        let shapes = u64::from(self.plan.shapes);
        let sample = (0..SAMPLE).map(|_| self.draw.below(shapes) as u32).collect();
        let flushed = Workload::transactions_through(Lsn::new(self.ledger.flushed));
        Task::Settle { through: self.ledger.published.max(flushed), sample }
    }

    fn settle(mut self) -> Result<Tally, String> {
        let task = self.settling();
        let life = self.start(task)?;
        let settled = |ledger: &Ledger| ledger.life.settled.is_some();
        if !life.hear(&mut self.ledger, PATIENCE, settled)? {
            self.healthy()?;
            return Err(self.never("settle"));
        }
        life.end(&mut self.ledger)?;
        self.look_at_journal(true)?;
        let settled = self.ledger.life.settled.ok_or("it has not settled")?;
        (self.tally.transactions, self.tally.logs, self.tally.changes) = settled;
        drop(self.disk);
        std::fs::remove_dir_all(self.place).map_err(|error| error.to_string())?;
        Ok(self.tally)
    }
}
