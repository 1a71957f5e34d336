//! Life: one life of the process, from its opening to its end without a word.

use super::super::open::{Assembly, assemble_simulated};
use super::super::publisher::Publisher;
use super::super::retain::Retainer;
use super::super::threads::{Parts, SyncPart};
use super::super::{Engine, Inner, StartError};
use super::nap::Napper;
use super::{RUNNERS, SHARDS, Sim};
use crate::consumer::ShardLink;
use crate::run::{Runner, StartJob, Watch};
use crate::shard::Pump;
use crate::words::{Handle, ShapeDefinition};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A consumer that was handed everything and is silent for so long has had its time. Runs take a
/// part of a second to some seconds.
pub(super) const DEADLINE: Duration = Duration::from_millis(400);
/// It may put that off for as long, where handlers hang.
pub(super) const LEASE_MAX: Duration = Duration::from_millis(700);
/// A factory that has not answered for so long is given up.
pub(super) const FACTORY_TIMEOUT: Duration = Duration::from_millis(50);

pub(super) struct Life {
    pub(super) inner: Arc<Inner>,
    pub(super) publisher: Publisher,
    pub(super) pumps: Vec<Pump>,
    pub(super) syncers: Vec<SyncPart>,
    pub(super) watch: Watch,
    /// Those that hang nowhere.
    pub(super) runners: Vec<Runner>,
    /// Those that hang in a factory, and in which.
    pub(super) hung: Vec<(Runner, Box<StartJob>)>,
    /// Those that hang in a handler.
    pub(super) naps: Vec<Napper>,
    /// A sync that hangs, and since when.
    pub(super) slow_sync: Option<(usize, Instant)>,
    links: Arc<[Arc<ShardLink>]>,
    pub(super) retainer: Option<Retainer>,
}

impl Life {
    pub(super) fn start(sim: &Sim) -> Result<Life, StartError> {
        let world = Arc::clone(&sim.world);
        let find = move |handle: Handle, _: &ShapeDefinition| world.spec(handle);
        let builder = Engine::builder()
            .shards(SHARDS)
            .runners(RUNNERS)
            .mailbox_places(4)
            .fragment_credits(8)
            .consumer_deadline(DEADLINE)
            .factory_timeout(FACTORY_TIMEOUT)
            // Not memory: the simulated disk stands in for it.
            .directory("simulated")
            .consumers(find);
        let builder = if sim.naps { builder.lease_max(LEASE_MAX) } else { builder };
        let builder = sim.keeps.settings(builder);
        let Assembly { inner, parts, publisher } =
            assemble_simulated(&builder, sim.now, (&sim.disk, &sim.rows), sim.floor)?;
        let Parts { pumps, syncers, watch, runners, links, retainer, .. } = parts;
        let mut life = Life {
            inner,
            publisher,
            pumps,
            syncers,
            watch,
            runners: Vec::new(),
            hung: Vec::new(),
            naps: Vec::new(),
            slow_sync: None,
            links,
            retainer,
        };
        life.runners = (0..runners).map(|_| life.runner()).collect();
        Ok(life)
    }

    pub(super) fn runner(&self) -> Runner {
        Runner::new(Arc::clone(&self.inner.pool), Arc::clone(&self.links))
    }

    /// Makes the next batch of a shard durable.
    pub(super) fn sync(&mut self, shard: usize) -> Result<(), String> {
        let part = &mut self.syncers[shard];
        if let Ok(batch) = part.batches.try_recv() {
            part.syncer.commit(&batch).map_err(|error| error.to_string())?;
            part.synced.send(batch).unwrap();
            self.inner.control.waiters.tell(shard, part.syncer.take_news());
        }
        Ok(())
    }
}
