//! Check: what must hold after each step, and at the end of a run.

use super::super::metrics::Health;
use super::{Known, SHARDS, Sim};
use crate::control::Event;
use crate::log::{ReadLimits, read_shape};
use crate::shard::Refusal;
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::time::Duration;

/// Rounds after which everything must be quiet.
const ROUNDS_MAX: usize = 20_000;

impl Sim {
    pub(super) fn check(&mut self) {
        let inner = Arc::clone(&self.life().inner);
        assert_eq!(inner.control.state.poisoned(), None);
        self.check_answers();
        self.check_given();
        self.check_flushed();
        self.world.check_consumers();
    }

    /// Who is durably gone says so before the flushed LSN passes what it owed.
    pub(super) fn check_flushed(&mut self) {
        let inner = Arc::clone(&self.life().inner);
        for event in inner.control.events.receiver().try_iter() {
            match event {
                Event::Undeliverable { handle, cause, .. } => {
                    self.outcome.undeliverable += 1;
                    self.world.condemned(handle, &cause);
                    self.shapes.insert(handle, Known::Gone);
                }
                Event::Invalidated { handle, cause, .. } => {
                    self.outcome.invalidated += 1;
                    self.world.invalidated(handle, &cause, self.published);
                    self.shapes.insert(handle, Known::Gone);
                }
                Event::Died { handle, cause, .. } if cause.contains("did not answer in time") => {
                    self.timed_out(handle);
                }
                Event::Removed { handle } => self.removed(handle),
                _ => {}
            }
        }
        let flushed = inner.control.flushed.global();
        assert!(flushed >= self.flushed, "flushed went back from {} to {flushed}", self.flushed);
        if flushed > self.flushed {
            self.flushed = flushed;
            self.world.check_flushed(flushed);
        }
    }

    /// R8: a slot is one shape's for ever.
    fn check_given(&mut self) {
        for shape in self.life.as_ref().unwrap().inner.control.registry.all() {
            let first = *self.given.entry((shape.shard.into(), shape.slot)).or_insert(shape.handle);
            assert_eq!(first, shape.handle, "{} is given out again", shape.slot);
        }
    }

    fn check_answers(&mut self) {
        self.again.retain(|answer| match answer.try_recv() {
            Ok(Err(Refusal::Unknown | Refusal::Stopping)) => false,
            Ok(other) => panic!("a second removal was answered with {other:?}"),
            Err(error) => error.is_empty(),
        });
        for (handle, known) in &mut self.shapes {
            match known {
                Known::Adding(answer) => match answer.try_recv() {
                    Ok(Ok(1)) => *known = Known::Live,
                    Ok(Err(Refusal::Altered(_))) => {
                        self.outcome.refused += 1;
                        self.world.refused(*handle, &self.versions);
                        *known = Known::Gone;
                    }
                    // It is on its way out, and was not added.
                    Ok(Err(Refusal::Stopping)) => {}
                    Ok(other) => panic!("adding was answered with {other:?}"),
                    Err(_) => {}
                },
                // Unknown is not gone: it was condemned just before, and is not durably so until
                // its event comes.
                Known::Removing(answer) if matches!(answer.try_recv(), Ok(Ok(_))) => {
                    *known = Known::Gone;
                }
                _ => {}
            }
        }
    }

    /// No more deaths: everything that is left to do is done, and everybody has everything.
    pub(super) fn settle(&mut self) {
        self.world.calm();
        self.disk.fail_after(None);
        self.rows.fail_after(None);
        self.end_slow_sync();
        while self.hangs() {
            self.come_back();
            // A shard's thread that hung has gone on, and may have given up who comes back next.
            self.check();
        }
        // It connects, also where it has nothing more.
        self.tell_earlier();
        let last = self.world.transactions.last().unwrap().commit;
        for round in 0.. {
            self.publish();
            self.now += Duration::from_millis(1);
            let now = self.now;
            let life = self.life();
            for pump in &mut life.pumps {
                pump.step(now);
            }
            (0..SHARDS).for_each(|shard| life.sync(shard).unwrap());
            for runner in &mut life.runners {
                while runner.run_one().unwrap() {}
            }
            self.watch();
            self.load();
            self.thin();
            self.world.report_late();
            self.check();
            let inner = &self.life.as_ref().unwrap().inner;
            let flushed = inner.control.flushed.global();
            // The shards know of the initial rows too.
            let known = |handle| matches!(self.shapes.get(handle), Some(Known::Live));
            let loaded = !self.loads.keys().any(known) && self.holds().is_empty();
            let done = flushed == last && loaded && self.world.unfinished(last).is_none();
            if done && self.shapes.values().all(|k| matches!(k, Known::Live | Known::Gone)) {
                break;
            }
            assert!(
                round < ROUNDS_MAX,
                "stuck: flushed {flushed} of {last}, unfinished {:?}, {:?}, held {:?}",
                self.world.unfinished(last),
                self.shapes.values().filter(|k| !matches!(k, Known::Live | Known::Gone)).count(),
                self.holds(),
            );
        }
        self.watch();
        let inner = &self.life.as_ref().unwrap().inner;
        assert_eq!(inner.health(), Health::Green);
        self.count_deaths();
        self.check_logs();
    }

    /// Through what is sealed, what is not, and both.
    fn check_logs(&mut self) {
        self.check_each_log();
        for shard in 0..SHARDS {
            while self.life().inner.shards[shard].log.seal().unwrap() {}
        }
        self.check_each_log();
    }

    /// Shapes that are not thinned to their quota yet: their rows are to come, or their consumers
    /// have not had all that came before these.
    fn holds(&self) -> RoaringBitmap {
        let shards = self.life.as_ref().unwrap().inner.shards.iter();
        shards.map(|shard| shard.log.claims().shapes().1).fold(RoaringBitmap::new(), |a, b| a | b)
    }

    fn check_each_log(&mut self) {
        let inner = Arc::clone(&self.life().inner);
        for handle in self.shapes.iter().filter(|(_, k)| matches!(k, Known::Live)).map(|(h, _)| *h)
        {
            let place = inner.control.registry.place(handle).expect("a live shape is registered");
            let log = &inner.shards[place.shard as usize].log;
            let limits = ReadLimits { changes_max: 7, ..ReadLimits::default() };
            let (mut expected, start) = self.world.expected(handle);
            expected.retain(|(offset, _)| *offset > start);
            let (mut found, mut after) = (Vec::new(), place.first.max(start));
            loop {
                let page = read_shape(log, place.slot, after, limits).unwrap();
                found.extend(page.changes.iter().map(|c| (c.offset(), c.operation())));
                after = page.through;
                if page.up_to_date {
                    break;
                }
            }
            assert_eq!(found, expected, "the log of shape {handle}");
            self.check_rows(handle, &place);
        }
    }
}
