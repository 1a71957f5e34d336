//! Poisoned: a thread of the engine panics. Everybody who waits is told why, and nothing is
//! acknowledged any more (R16). A process of its own, as the panic comes from a subscriber of
//! `tracing`, of which a process has one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use support::*;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use walfan::{
    Ack, AddError, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Event, Failure,
    FloorRaiseError, Health, Lsn, Offset, PgSnapshot, PublishError, ReadError, Reporter,
    SnapshotError, Start, Started, TryPublishError, WaitError,
};

/// Holds on to its mailbox by a reporter, and counts for as long as it is there.
struct Keeps {
    reporter: Reporter,
    _counts: Arc<()>,
}

impl Consumer for Keeps {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        _: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        Ok(self.reporter.flushed(delivery.commit_lsn())?)
    }
}

/// Panics at the first warning of the engine's: it is said by the shard's thread.
struct Explodes(AtomicBool);

impl Subscriber for Explodes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target().starts_with("walfan")
    }

    fn event(&self, _: &tracing::Event<'_>) {
        assert!(self.0.swap(true, Ordering::SeqCst), "as the test wants");
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn r16_a_panic_of_an_engines_thread_poisons_and_wakes_everybody() {
    tracing::subscriber::set_global_default(Explodes(AtomicBool::new(false))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (engine, mut publisher) = small().directory(dir.path()).start().unwrap();
    let items = items();
    engine.learn(Arc::clone(&items));
    let silent = Seen::default();
    let script: Script = Arc::new(|_, _| Ok(Report::No));
    let spec = recorder(Placement::Mailbox, Ack::Consumer, &silent, script);
    let log = engine.add_shape(shape(""), spec).unwrap();
    let script: Script = Arc::new(|delivery, _| match delivery.commit_lsn() {
        Lsn::ZERO => Ok(Report::Yes),
        _ => Err("its death is warned of".into()),
    });
    let dies = recorder(Placement::Mailbox, Ack::Log, &Seen::default(), script);
    engine.add_shape(shape("kind = 'dies'"), dies).unwrap();
    let kept = Arc::new(());
    for placement in PLACEMENTS {
        // In both shards.
        for _ in 0..2 {
            let keeps = Arc::clone(&kept);
            let spec = placed(placement, Ack::Consumer, move |start: &Start<'_>| {
                let consumer = Keeps { reporter: start.reporter(), _counts: Arc::clone(&keeps) };
                Ok(Started::new(Box::new(consumer), start.resume()))
            });
            engine.add_shape(shape(""), spec).unwrap();
        }
    }
    publish_rows(&mut publisher, &items, 1..5, "a");
    let waited = thread::scope(|scope| {
        let waiting = scope.spawn(|| engine.wait_flushed(Lsn::new(4), LONG));
        publish_rows(&mut publisher, &items, 5..6, "dies");
        waiting.join().unwrap()
    });
    let told = |failure: &Failure| {
        let Failure::Poisoned { cause } = failure else { panic!("{failure}") };
        assert!(cause.contains("walfan-shard-0") && cause.contains("as the test wants"), "{cause}");
    };
    let Err(WaitError::Failed(failure)) = waited else { panic!("{waited:?}") };
    told(&failure);
    let Err(PublishError::Failed(failure)) = publisher.publish(inserts(&items, 9, &[])) else {
        panic!("it was taken")
    };
    told(&failure);
    let refused = publisher.try_publish(Arc::new(inserts(&items, 9, &[]))).unwrap_err();
    let TryPublishError::Refused { error: PublishError::Failed(failure), .. } = refused else {
        panic!("{refused}")
    };
    told(&failure);
    let waited = engine.wait(log, Offset::commit_mark(Lsn::new(9)), LONG);
    let Err(ReadError::Failed(failure)) = waited else { panic!("{waited:?}") };
    told(&failure);
    let loaded = engine.load_snapshot(log, PgSnapshot::new(1, 1, []).unwrap(), Lsn::new(9));
    let Err(SnapshotError::Failed(failure)) = loaded else { panic!("{loaded:?}") };
    told(&failure);
    let added = engine.add_shape(shape(""), ConsumerSpec::Log);
    let Err(AddError::Failed(failure)) = added else { panic!("{added:?}") };
    told(&failure);
    told(&engine.invalidate_all("no").unwrap_err());
    assert!(engine.remove_shape(log).is_err());
    let raised = engine.raise_floor(Lsn::new(1));
    let Err(FloorRaiseError::Failed(failure)) = raised else { panic!("{raised:?}") };
    told(&failure);
    told(&engine.failure().unwrap());
    assert!(matches!(engine.health(), Health::Red { .. }));
    wait_for(&engine, |event| matches!(event, Event::Poisoned { .. }));
    assert_eq!(engine.flushed_lsn(), Lsn::ZERO);
    wait_until("consumers and factories are dropped", || Arc::strong_count(&kept) == 1);
    told(&engine.shutdown(LONG).unwrap_err());
}
