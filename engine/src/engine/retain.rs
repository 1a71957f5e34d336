//! Retain: thins the shards' logs, one after another (R15). A machine that waits for nobody and for
//! whom nobody waits; what fails is told and tried again, because nothing durable depends on it.

use crate::control::{Control, Event};
use crate::log::{Directory, Step, Thinner};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failure a shard's log is left alone for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// See the file's head.
pub(super) struct Retainer {
    control: Arc<Control>,
    shards: Vec<Retained>,
    /// Nobody else opens the directory while this may write to it: also when it is left behind.
    _directory: Option<Arc<Directory>>,
}

struct Retained {
    shard: usize,
    thinner: Thinner,
    not_before: Option<Instant>,
}

impl Retainer {
    /// `None`: everything is kept.
    pub(super) fn new(
        thinners: Vec<Option<Thinner>>,
        control: Arc<Control>,
        directory: Option<Arc<Directory>>,
    ) -> Option<Retainer> {
        let shards = thinners.into_iter().enumerate().filter_map(|(shard, thinner)| {
            Some(Retained { shard, thinner: thinner?, not_before: None })
        });
        let shards: Vec<_> = shards.collect();
        (!shards.is_empty()).then_some(Retainer { control, shards, _directory: directory })
    }

    /// One step of each shard, at `now`, which is `since_1970`. Whether there is more to do.
    pub(super) fn step(&mut self, now: Instant, since_1970: Duration) -> bool {
        let mut more = false;
        for Retained { shard, thinner, not_before } in &mut self.shards {
            if not_before.is_some_and(|at| now < at) {
                continue;
            }
            *not_before = None;
            match thinner.step(since_1970) {
                Ok(Step::Rest) => {}
                Ok(Step::More) => more = true,
                Ok(Step::Freed(bytes)) => {
                    self.control.counters[*shard].log_bytes_freed.add(bytes);
                    more = true;
                }
                Err(error) => {
                    *not_before = Some(now + PAUSE);
                    let event = Event::NotThinned { shard: *shard, cause: error.to_string() };
                    self.control.events.say(event, now);
                }
            }
        }
        more
    }
}
