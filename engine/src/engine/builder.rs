//! Builder: an engine's settings, each with its default and its reason.

use super::open;
use super::publisher::Publisher;
use super::{Engine, StartError};
use crate::consumer::ConsumerSpec;
use crate::log::{BLOCK_BYTES_MAX, Retention, SEGMENT_BYTES_MAX};
use crate::words::{Handle, ShapeDefinition};
use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Says which consumer a shape has that was found in the directory.
pub(super) type FindConsumer = Arc<dyn Fn(Handle, &ShapeDefinition) -> ConsumerSpec + Send + Sync>;

/// The settings of an [`Engine`].
#[derive(Clone)]
pub struct Builder {
    pub(super) shards: usize,
    pub(super) runners: usize,
    pub(super) directory: Option<PathBuf>,
    pub(super) memory_bytes_max: u64,
    pub(super) mailbox_places: usize,
    pub(super) fragment_credits: usize,
    pub(super) lifecycle_credits: usize,
    pub(super) consumer_deadline: Duration,
    pub(super) factory_timeout: Duration,
    pub(super) lease_max: Duration,
    pub(super) consumer_bytes_max: u64,
    pub(super) restarts_per_second: u32,
    pub(super) log_bytes_max: Option<u64>,
    pub(super) log_age_max: Option<Duration>,
    pub(super) shape_quota_bytes: u64,
    /// About how large a file of a log gets. Default: by `log_bytes_max`.
    pub(super) segment_bytes_max: Option<u64>,
    pub(super) consumers: FindConsumer,
}

impl Default for Builder {
    fn default() -> Builder {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Builder {
            shards: cores,
            runners: cores,
            directory: None,
            memory_bytes_max: 256 << 20,
            mailbox_places: 16,
            fragment_credits: 64,
            lifecycle_credits: 64,
            consumer_deadline: Duration::from_secs(60),
            factory_timeout: Duration::from_secs(10),
            lease_max: Duration::from_secs(600),
            consumer_bytes_max: 256 << 20,
            restarts_per_second: 60_000,
            log_bytes_max: None,
            log_age_max: None,
            shape_quota_bytes: 16 << 10,
            segment_bytes_max: None,
            consumers: Arc::new(|_, _| ConsumerSpec::Log),
        }
    }
}

impl Builder {
    /// Worker threads, each with its own slice of the shapes. Fixed when a directory is made.
    /// Default: the cores.
    pub fn shards(mut self, shards: usize) -> Builder {
        self.shards = shards;
        self
    }

    /// Threads that run mailbox consumers. Default: the cores.
    pub fn runners(mut self, runners: usize) -> Builder {
        self.runners = runners;
        self
    }

    /// Keeps shapes and their logs in this directory, which is made if it is not there. Default:
    /// in memory, and nothing survives the process.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Builder {
        self.directory = Some(path.into());
        self
    }

    /// What the memory store may hold, in bytes over all shards. Default: 256 MiB.
    pub fn memory_bytes_max(mut self, bytes: u64) -> Builder {
        self.memory_bytes_max = bytes;
        self
    }

    /// Deliveries that wait in one consumer's mailbox before it is fed from the log instead. Each
    /// place costs 16 bytes a consumer. Default: 16.
    pub fn mailbox_places(mut self, places: usize) -> Builder {
        self.mailbox_places = places;
        self
    }

    /// Fragments that wait in one shard's channel before publish blocks. Default: 64.
    pub fn fragment_credits(mut self, fragments: usize) -> Builder {
        self.fragment_credits = fragments;
        self
    }

    /// Additions and removals that wait in one shard's channel before their callers block; the
    /// channel's capacity is the sum of both. Default: 64.
    pub fn lifecycle_credits(mut self, messages: usize) -> Builder {
        self.lifecycle_credits = messages;
        self
    }

    /// How long a consumer that lives and owes may be silent before its shape is given up as
    /// undeliverable. Time that it waits for the engine does not count. Default: 60 s.
    pub fn consumer_deadline(mut self, deadline: Duration) -> Builder {
        self.consumer_deadline = deadline;
        self
    }

    /// How long a factory may take before that counts as a failed attempt. Default: 10 s.
    pub fn factory_timeout(mut self, timeout: Duration) -> Builder {
        self.factory_timeout = timeout;
        self
    }

    /// The longest time that a consumer may defer its deadline in all. Default: 10 minutes.
    pub fn lease_max(mut self, lease: Duration) -> Builder {
        self.lease_max = lease;
        self
    }

    /// Bytes of commits that one consumer may leave unflushed under [`Ack::Consumer`] before its
    /// shape is given up as undeliverable. Default: 256 MiB.
    ///
    /// [`Ack::Consumer`]: crate::Ack::Consumer
    pub fn consumer_bytes_max(mut self, bytes: u64) -> Builder {
        self.consumer_bytes_max = bytes;
        self
    }

    /// Restarts a second over all shards, beyond the first one of each consumer, which is
    /// immediate. Default: 60,000.
    pub fn restarts_per_second(mut self, restarts: u32) -> Builder {
        self.restarts_per_second = restarts;
        self
    }

    /// Bytes that the shapes' logs may take in the directory. Beyond them the oldest part is
    /// *thinned*: each shape keeps its newest changes there, as many as its quota allows, and loses
    /// the rest; of removed shapes nothing is kept. Each shard has an equal part, and works in
    /// pieces of about an eighth of it. What quotas keep counts, and is kept also when it alone is
    /// more. Default: no limit.
    ///
    /// What a consumer with [`Ack::Consumer`](crate::Ack::Consumer) has not flushed is kept, up to
    /// [`consumer_bytes_max`](Builder::consumer_bytes_max).
    pub fn log_bytes_max(mut self, bytes: u64) -> Builder {
        self.log_bytes_max = Some(bytes);
        self
    }

    /// How long the shapes' logs are kept whole: what is older is thinned as with
    /// [`log_bytes_max`](Builder::log_bytes_max), an eighth of the time later at the latest, file
    /// by file; the file that is written to stays. Default: for ever.
    pub fn log_age_max(mut self, age: Duration) -> Builder {
        self.log_age_max = Some(age);
        self
    }

    /// What each shape keeps when the old part of its log is thinned: so many bytes of values of
    /// its newest changes there, each with 16 for itself. So a shape that has few changes keeps
    /// them all, however many others have. While its initial rows are being loaded, a shape may
    /// keep as much as [`consumer_bytes_max`](Builder::consumer_bytes_max). Default: 16 KiB.
    pub fn shape_quota_bytes(mut self, bytes: u64) -> Builder {
        self.shape_quota_bytes = bytes;
        self
    }

    /// Says which consumers the shapes have that are found in the directory: consumers are code and
    /// are not stored. Default: the log alone.
    pub fn consumers(
        mut self,
        find: impl Fn(Handle, &ShapeDefinition) -> ConsumerSpec + Send + Sync + 'static,
    ) -> Builder {
        self.consumers = Arc::new(find);
        self
    }

    /// Starts the engine. The publisher is the only one there will ever be.
    ///
    /// # Errors
    /// When a setting is out of range, the directory cannot be opened, or a thread not started.
    pub fn start(self) -> Result<(Engine, Publisher), StartError> {
        self.check()?;
        open::start(&self)
    }

    /// What a shard keeps of its log; `None`: all of it.
    pub(super) fn retention(&self) -> Option<Retention> {
        if self.log_bytes_max.is_none() && self.log_age_max.is_none() {
            return None;
        }
        let bytes_max = self.log_share().unwrap_or(u64::MAX);
        let (age_max, shape_bytes) = (self.log_age_max, self.shape_quota_bytes);
        let loading_bytes = self.consumer_bytes_max.max(shape_bytes);
        Some(Retention { bytes_max, age_max, shape_bytes, loading_bytes })
    }

    /// The bytes after which a file of a log is closed, and a block in it.
    pub(super) fn log_sizes(&self) -> (u64, usize) {
        let part = self.log_share().map(|share| share / PARTS);
        let part = part.map(|part| part.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX));
        let segment = self.segment_bytes_max.or(part).unwrap_or(SEGMENT_BYTES_MAX);
        (segment, segment.min(BLOCK_BYTES_MAX as u64) as usize)
    }

    fn log_share(&self) -> Option<u64> {
        self.log_bytes_max.map(|bytes| bytes / self.shards as u64)
    }

    fn check(&self) -> Result<(), StartError> {
        let at_least_one = [
            ("shards", self.shards as u64),
            ("runners", self.runners as u64),
            ("mailbox_places", self.mailbox_places as u64),
            ("fragment_credits", self.fragment_credits as u64),
            ("lifecycle_credits", self.lifecycle_credits as u64),
            ("restarts_per_second", self.restarts_per_second.into()),
            ("consumer_bytes_max", self.consumer_bytes_max),
            ("memory_bytes_max", self.memory_bytes_max),
            ("log_bytes_max", self.log_bytes_max.unwrap_or(1)),
        ];
        for (setting, found) in at_least_one {
            if found == 0 {
                return Err(StartError::Setting { setting, found, allowed: "at least 1" });
            }
        }
        let counts = [
            ("shards", self.shards, SHARDS_MAX, "at most 256"),
            ("runners", self.runners, RUNNERS_MAX, "at most 1024"),
            ("mailbox_places", self.mailbox_places, PLACES_MAX, "at most 65536"),
            ("fragment_credits", self.fragment_credits, PLACES_MAX, "at most 65536"),
            ("lifecycle_credits", self.lifecycle_credits, PLACES_MAX, "at most 65536"),
        ];
        for (setting, found, max, allowed) in counts {
            if found > max {
                return Err(StartError::Setting { setting, found: found as u64, allowed });
            }
        }
        Ok(())
    }
}

/// A log is thinned in such parts of what it may hold: files are so large, within bounds. A small
/// one costs as many syncs as a large one.
const PARTS: u64 = 8;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Far beyond what helps, and small enough to be allocated.
const SHARDS_MAX: usize = 256;
const RUNNERS_MAX: usize = 1_024;
const PLACES_MAX: usize = 65_536;

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("shards", &self.shards)
            .field("runners", &self.runners)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}
