//! Reopen: a directory is opened again, with what it held and nothing else, and the stream goes on
//! without a loss and without a repetition (R9, R13, INV8).

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::*;
use walfan::{
    Ack, Builder, ConsumerSpec, Engine, Event, Handle, Lsn, Offset, OpenError, Publisher, Relation,
    Start, StartError, Started,
};

type World = (Engine, Publisher, Arc<Relation>);

fn open(dir: &Path, builder: Builder) -> World {
    let (engine, publisher) = builder.directory(dir).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    (engine, publisher, items)
}

/// Stops as a deploy does, or as a crash: without waiting for anything.
fn close((engine, publisher, _): World, gracefully: bool) {
    if gracefully {
        engine.shutdown(LONG).unwrap();
    }
    drop((engine, publisher));
}

/// Publishes rows of kind `a` and waits for them.
fn publish((engine, publisher, items): &mut World, commits: std::ops::Range<u64>) {
    let last = Lsn::new(commits.end - 1);
    publish_rows(publisher, items, commits, "a");
    assert_eq!(engine.wait_flushed(last, LONG).unwrap(), last);
}

fn handles(engine: &Engine) -> Vec<Handle> {
    engine.shapes().into_iter().map(|(handle, _)| handle).collect()
}

/// Consumers that keep what they have flushed, by handle, from one life to the next.
#[derive(Clone, Default)]
struct Kept {
    seen: Arc<Mutex<BTreeMap<Handle, Seen>>>,
    /// Where the next incarnation resumes, if not after its last report.
    resume: Arc<Mutex<Option<Offset>>>,
    told: Arc<Mutex<Vec<Option<Lsn>>>>,
}

impl Kept {
    fn of(&self, handle: Handle) -> Seen {
        Arc::clone(self.seen.lock().unwrap().entry(handle).or_default())
    }

    fn spec(&self, placement: Placement, ack: Ack) -> ConsumerSpec {
        let kept = self.clone();
        placed(placement, ack, move |start: &Start<'_>| {
            let seen = kept.of(start.handle());
            kept.told.lock().unwrap().push(start.last_reported());
            let last = seen.lock().unwrap().iter().map(|(_, o, _)| o.commit).max();
            let resume = last.map_or(start.first(), Offset::commit_mark);
            let resume = kept.resume.lock().unwrap().unwrap_or(resume).max(start.first());
            let inner = start_of(&recorder(placement, ack, &seen, reports()), start)?;
            Ok(Started::new(Box::new(Keeps(inner)), resume))
        })
    }
}

/// Hands on to the consumer of a [`Started`].
struct Keeps(Started);

impl walfan::Consumer for Keeps {
    fn handle(
        &mut self,
        delivery: &walfan::Delivery<'_>,
        context: &mut walfan::Context<'_>,
    ) -> Result<(), walfan::ConsumerError> {
        self.0.consumer().handle(delivery, context)
    }
}
