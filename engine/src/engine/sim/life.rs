//! Life: one life of the process, from its opening to its end without a word.

use super::super::open::{Assembly, assemble_simulated};
use super::super::publisher::Publisher;
use super::super::retain::Retainer;
use super::super::threads::{Parts, SyncPart};
use super::super::{Engine, Inner, StartError};
use super::{RUNNERS, SHARDS, Sim};
use crate::run::{Runner, Watch};
use crate::shard::Pump;
use crate::words::{Handle, ShapeDefinition};
use std::sync::Arc;
use std::time::Duration;

/// A consumer that was handed everything and is silent for so long has had its time. Runs take a
/// part of a second to some seconds.
const DEADLINE: Duration = Duration::from_millis(400);

pub(super) struct Life {
    pub(super) inner: Arc<Inner>,
    pub(super) publisher: Publisher,
    pub(super) pumps: Vec<Pump>,
    pub(super) syncers: Vec<SyncPart>,
    pub(super) watch: Watch,
    pub(super) runners: Vec<Runner>,
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
            // Not memory: the simulated disk stands in for it.
            .directory("simulated")
            .consumers(find);
        let builder = sim.keeps.settings(builder);
        let Assembly { inner, parts } =
            assemble_simulated(&builder, sim.now, (&sim.disk, &sim.rows), sim.floor)?;
        let Parts { pumps, syncers, watch, runners, links, retainer, .. } = parts;
        let runner = |_| Runner::new(Arc::clone(&inner.pool), Arc::clone(&links));
        let runners = (0..runners).map(runner).collect();
        let publisher = Publisher::new(Arc::clone(&inner));
        Ok(Life { inner, publisher, pumps, syncers, watch, runners, retainer })
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
