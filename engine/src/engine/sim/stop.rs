//! Stop: the engine is shut down at whatever point it is, and says who still owes something. What
//! it had accepted is flushed by then, or its shape is among these.

use super::consumer::World;
use super::{SHARDS, Sim};
use crate::control::Phase;
use crate::shard::Message;
use std::sync::Arc;
use std::time::Duration;

impl Sim {
    /// What a shutdown does to each thread, in any order; then the process is started again.
    pub(super) fn shut_down(&mut self) {
        let lives = self.outcome.lives;
        self.end_slow_sync();
        let deadline = self.now + Duration::from_millis(self.rng.below(60));
        // Held no longer: what it holds goes with its life.
        let inner = Arc::clone(&self.life().inner);
        inner.control.state.advance(Phase::Stopping);
        for shard in inner.shards.iter() {
            assert!(shard.messages.try_send(Message::Stop(deadline)).is_ok(), "no place for Stop");
        }
        drop(inner);
        let mut done = [false; SHARDS];
        while done.contains(&false) {
            let now = self.now;
            let shard = self.rng.below(SHARDS as u64) as usize;
            // Where the disk fails, the process is started again.
            match self.rng.below(6) {
                // A shard that is done is not pumped any more.
                0 if !done[shard] => {
                    let pump = &mut self.life().pumps[shard];
                    pump.step(now);
                    done[shard] = pump.is_done(now);
                }
                1 => {
                    let cause = self.life().sync(shard);
                    if let Err(cause) = cause {
                        return self.fail(&cause);
                    }
                }
                2 => drop(self.run_one(shard)),
                3 => self.world.report_late(),
                4 => self.hung(),
                _ => {
                    self.now += Duration::from_millis(self.rng.below(4));
                    self.watch();
                }
            }
            if self.outcome.lives > lives {
                return;
            }
            self.check();
        }
        let inner = Arc::clone(&self.life().inner);
        for (shard, pump) in std::mem::take(&mut self.life().pumps).into_iter().enumerate() {
            let end = pump.finish();
            assert_eq!(end.flushed, inner.control.flushed.shard(shard));
            let place = |handle| inner.control.registry.place(handle);
            let is_here = |handle| place(handle).is_some_and(|place| place.shard as usize == shard);
            self.world.check_owing(end.durable, &end.owing, is_here);
        }
        drop(inner);
        while self.hangs() {
            self.come_back();
        }
        for runner in 0..self.life().runners.len() {
            while self.run_one(runner) {}
            if self.outcome.lives > lives {
                return;
            }
        }
        self.world.check_dropped();
        self.outcome.shutdowns += 1;
        self.crash();
    }
}

impl World {
    /// Every consumer was dropped.
    pub(super) fn check_dropped(&self) {
        let shapes = self.shapes.lock();
        let left = shapes.iter().find(|(_, seen)| seen.alive || seen.strays > 0);
        assert!(left.is_none(), "it is left behind: {left:?}");
    }
}
