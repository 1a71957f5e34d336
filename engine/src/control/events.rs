//! Events: what an operator wants to hear of, as a bounded stream and as rate-limited warnings.

use crate::sync::{AtomicU64, Ordering};
use crate::words::{Handle, Offset};
use crossbeam_channel::{Receiver, Sender, TrySendError};
use parking_lot::Mutex;
use std::fmt;
use std::time::{Duration, Instant};

/// Events that wait for a reader; more are counted and dropped.
const EVENTS_MAX: usize = 65_536;
/// Warnings of one kind in one window; more are counted and named in the next one.
const WARNINGS_PER_WINDOW: u32 = 10;
const WARNING_WINDOW: Duration = Duration::from_secs(1);

/// Something that an operator, or the embedder, wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An incarnation of a shape's consumer ended: panic, error, exit, or failed factory.
    Died {
        /// The shape.
        handle: Handle,
        /// The position that it was handling, or resuming at.
        offset: Offset,
        /// What it said.
        cause: String,
    },
    /// A consumer's next incarnation has started.
    Restarted {
        /// The shape.
        handle: Handle,
        /// Where it resumes.
        offset: Offset,
        /// The incarnation's number.
        incarnation: u64,
    },
    /// A consumer died too often in one place, or passed its deadline or its bound: the shape is
    /// invalidated, its readers start over.
    Undeliverable {
        /// The shape.
        handle: Handle,
        /// The position that could not be delivered.
        offset: Offset,
        /// Why.
        cause: String,
    },
    /// A shape is durably invalidated for a reason that is not its consumer's.
    Invalidated {
        /// The shape.
        handle: Handle,
        /// From where it is not valid.
        offset: Offset,
        /// Why.
        cause: String,
    },
    /// A consumer lives, owes, and has been still for half of its deadline, or a thread of the
    /// engine is stuck inside a handler.
    Stalled {
        /// The shape.
        handle: Handle,
        /// The last position that it has reported, or was handed.
        offset: Offset,
        /// What is known.
        cause: String,
    },
    /// A removed shape's consumer is dropped and its memory is free (R12).
    Removed {
        /// The shape.
        handle: Handle,
    },
    /// Old files of a shard's log could not be thinned. Nothing is lost; more room is taken than
    /// the settings allow, until it succeeds.
    NotThinned {
        /// The shard.
        shard: usize,
        /// What is wrong, where, and what to do.
        cause: String,
    },
    /// The engine has failed and stopped. Nothing is acknowledged any more.
    Poisoned {
        /// Why.
        cause: String,
    },
}

impl Event {
    fn kind(&self) -> (usize, &'static str) {
        match self {
            Event::Died { .. } => (0, "consumer died"),
            Event::Undeliverable { .. } => (1, "shape undeliverable"),
            Event::Invalidated { .. } => (2, "shape invalidated"),
            Event::Stalled { .. } => (3, "consumer stalled"),
            Event::Restarted { .. } => (4, "consumer restarted"),
            Event::Poisoned { .. } => (5, "engine poisoned"),
            Event::Removed { .. } => (6, "shape removed"),
            Event::NotThinned { .. } => (7, "log not thinned"),
        }
    }
}

const KINDS: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Instant,
    said: u32,
    suppressed: u64,
}

/// Takes events from every thread of the engine.
pub(crate) struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    dropped: AtomicU64,
    suppressed: AtomicU64,
    windows: Mutex<[Window; KINDS]>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &self.receiver.len()).finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn new(now: Instant) -> Events {
        let (sender, receiver) = crossbeam_channel::bounded(EVENTS_MAX);
        let window = Window { since: now, said: 0, suppressed: 0 };
        Events {
            sender,
            receiver,
            dropped: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
            windows: Mutex::new([window; KINDS]),
        }
    }

    pub(crate) fn receiver(&self) -> Receiver<Event> {
        self.receiver.clone()
    }

    /// Events that found the stream full, and warnings that were held back.
    pub(crate) fn lost(&self) -> (u64, u64) {
        // Relaxed: statistics.
        (self.dropped.load(Ordering::Relaxed), self.suppressed.load(Ordering::Relaxed))
    }

    /// Never blocks: an event that does not fit is counted.
    pub(crate) fn say(&self, event: Event, now: Instant) {
        self.warn(&event, now);
        if let Err(TrySendError::Full(_)) = self.sender.try_send(event) {
            // Relaxed: a statistic.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn warn(&self, event: &Event, now: Instant) {
        let (index, kind) = event.kind();
        let held_back = {
            let mut windows = self.windows.lock();
            let window = &mut windows[index];
            if now.duration_since(window.since) >= WARNING_WINDOW {
                window.since = now;
                window.said = 0;
            }
            window.said += 1;
            if window.said > WARNINGS_PER_WINDOW {
                window.suppressed += 1;
                // Relaxed: a statistic.
                self.suppressed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            std::mem::take(&mut window.suppressed)
        };
        match event {
            Event::Died { handle, offset, cause }
            | Event::Undeliverable { handle, offset, cause }
            | Event::Invalidated { handle, offset, cause }
            | Event::Stalled { handle, offset, cause } => {
                tracing::warn!(%handle, %offset, cause, held_back, "{kind}");
            }
            Event::Restarted { handle, offset, incarnation } => {
                tracing::info!(%handle, %offset, incarnation, held_back, "{kind}");
            }
            Event::Removed { handle } => tracing::debug!(%handle, held_back, "{kind}"),
            Event::NotThinned { shard, cause } => {
                tracing::warn!(shard, cause, held_back, "{kind}");
            }
            Event::Poisoned { cause } => tracing::error!(cause, "{kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_bound_are_counted_and_warnings_are_rate_limited() {
        let now = Instant::now();
        let events = Events::new(now);
        let event = Event::Died {
            handle: Handle::new(1),
            offset: Offset::ZERO,
            cause: "panicked: boom".into(),
        };
        for _ in 0..EVENTS_MAX + 3 {
            events.say(event.clone(), now);
        }
        let expected = EVENTS_MAX as u64 + 3 - u64::from(WARNINGS_PER_WINDOW);
        assert_eq!(events.lost(), (3, expected));
        events.say(event.clone(), now + WARNING_WINDOW);
        assert_eq!(events.lost().1, expected, "a new window speaks again");
        assert_eq!(events.receiver().try_recv(), Ok(event));
    }
}
