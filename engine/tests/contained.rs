//! Contained: code of the embedder's panics where only the engine's own would be looked for: in an
//! error that is written down, in what a panic was made with, and in every destructor. It is a
//! death like any other, or nothing at all, and never the engine's end (R16).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use crossbeam_channel::{Receiver, Sender, bounded};
use std::fmt;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;
use walfan::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Engine, Event, Factory, Lsn,
    Publisher, Start, Started,
};

/// Panics when it is dropped, and counts.
#[derive(Debug)]
struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("as the test wants: dropped");
    }
}

/// Cannot be written down.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("as the test wants: unspeakable")
    }
}

impl std::error::Error for Unspeakable {}

/// Can be written down, and not dropped.
#[derive(Debug)]
struct Explosive(#[allow(dead_code, reason = "its destructor is what matters")] Bomb);

impl fmt::Display for Explosive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("explosive")
    }
}

impl std::error::Error for Explosive {}

/// How an incarnation ends, or how it is not made.
#[derive(Clone, Copy, Debug)]
enum End {
    Unspeakable,
    Explosive,
    Panic,
}

const ENDS: [End; 3] = [End::Unspeakable, End::Explosive, End::Panic];

impl End {
    fn come(self, dropped: &Arc<AtomicUsize>) -> ConsumerError {
        match self {
            End::Unspeakable => Box::new(Unspeakable),
            End::Explosive => Box::new(Explosive(Bomb(Arc::clone(dropped)))),
            End::Panic => panic_any(Bomb(Arc::clone(dropped))),
        }
    }

    /// What the event says.
    fn cause(self) -> &'static str {
        match self {
            End::Unspeakable => "cannot be written down: it panicked: as the test wants",
            End::Explosive => "explosive",
            End::Panic => "panicked",
        }
    }
}

struct World {
    engine: Engine,
    publisher: Publisher,
    bystander: Seen,
    dropped: Arc<AtomicUsize>,
}

impl World {
    fn new() -> World {
        let (engine, publisher) = small().start().unwrap();
        engine.learn(items());
        let bystander = Seen::default();
        let spec = recorder(Placement::Mailbox, Ack::Consumer, &bystander, reports());
        engine.add_shape(shape(""), spec).unwrap();
        World { engine, publisher, bystander, dropped: Arc::default() }
    }

    /// The engine goes on, and ends well.
    fn check(mut self, commits: std::ops::Range<u64>) {
        publish_rows(&mut self.publisher, &items(), commits.clone(), "a");
        let last = Lsn::new(commits.end - 1);
        assert_eq!(self.engine.wait_flushed(last, LONG).unwrap(), last);
        assert_eq!(joined(&self.bystander), firsts(1..commits.end));
        assert_eq!(self.engine.failure(), None);
        assert!(self.engine.shutdown(LONG).unwrap().wedged.is_empty());
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

/// The first two incarnations end so: the first in its handler, the second is not made.
#[test]
fn errors_and_panics_that_explode_are_deaths_like_any_other() {
    for placement in PLACEMENTS {
        for end in ENDS {
            let mut world = World::new();
            let seen = Seen::default();
            let (dropped, record) = (Arc::clone(&world.dropped), Arc::clone(&seen));
            let spec = placed(placement, Ack::Consumer, move |start: &Start<'_>| {
                if start.incarnation() == 2 {
                    return Err(end.come(&dropped));
                }
                let dropped = Arc::clone(&dropped);
                let script: Script = Arc::new(move |delivery, context| {
                    if context.incarnation() == 1 && delivery.commit_lsn() == Lsn::new(3) {
                        return Err(end.come(&dropped));
                    }
                    Ok(Report::Yes)
                });
                Ok(Started::new(recording(&record, script), start.resume()))
            });
            let victim = world.engine.add_shape(shape(""), spec).unwrap();
            wait_until("all run", || world.engine.metrics().lagging == 0);
            publish_rows(&mut world.publisher, &items(), 1..5, "a");
            for _ in 0..2 {
                let died = wait_for(&world.engine, |e| matches!(e, Event::Died { .. }));
                let Event::Died { handle, cause, .. } = died else { unreachable!() };
                assert_eq!(handle, victim);
                assert!(cause.contains(end.cause()), "{end:?}: {cause}");
            }
            assert_eq!(world.engine.wait_flushed(Lsn::new(4), LONG).unwrap(), Lsn::new(4));
            assert_eq!(joined(&seen), firsts(1..5), "{placement:?} {end:?}");
            let bombs = if matches!(end, End::Unspeakable) { 0 } else { 2 };
            assert_eq!(world.dropped(), bombs, "{placement:?} {end:?}");
            world.check(5..9);
        }
    }
}

/// A consumer and a factory that explode when they are dropped.
struct Factories {
    dropped: Arc<AtomicUsize>,
    entered: Sender<()>,
    gate: Receiver<()>,
    _bomb: Bomb,
}

struct Consumers(#[allow(dead_code, reason = "its destructor is what matters")] Bomb);

impl Consumer for Consumers {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        match delivery.commit() {
            Some(lsn) => Ok(context.flushed(lsn)?),
            None => Ok(()),
        }
    }
}

impl Factory for Factories {
    fn start(&self, start: &Start<'_>) -> Result<Started, ConsumerError> {
        self.entered.send(())?;
        let _ = self.gate.recv();
        let bomb = Bomb(Arc::clone(&self.dropped));
        Ok(Started::new(Box::new(Consumers(bomb)), start.resume()))
    }
}

/// In which state its shape is removed, if at all before the engine's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Starting,
    Running,
    Never,
}

#[test]
fn a19_destructors_that_panic_change_nothing() {
    for placement in PLACEMENTS {
        for when in [When::Starting, When::Running, When::Never] {
            let mut world = World::new();
            let (entered, inside) = bounded(1);
            let (release, gate) = bounded(0);
            let dropped = Arc::clone(&world.dropped);
            let _bomb = Bomb(Arc::clone(&dropped));
            let factory = Arc::new(Factories { dropped, entered, gate, _bomb });
            let spec = match placement {
                Placement::Mailbox => ConsumerSpec::Mailbox { factory, ack: Ack::Consumer },
                Placement::Inline => ConsumerSpec::Inline { factory, ack: Ack::Consumer },
            };
            let victim = world.engine.add_shape(shape(""), spec).unwrap();
            inside.recv().unwrap();
            if when == When::Starting {
                // Its runner is the last that holds the factory.
                world.engine.remove_shape(victim).unwrap();
            }
            drop(release);
            publish_rows(&mut world.publisher, &items(), 1..5, "a");
            assert_eq!(world.engine.wait_flushed(Lsn::new(4), LONG).unwrap(), Lsn::new(4));
            wait_until("all run", || world.engine.metrics().lagging == 0);
            if when == When::Running {
                world.engine.remove_shape(victim).unwrap();
            }
            if when != When::Never {
                wait_for(&world.engine, |e| matches!(e, Event::Removed { .. }));
                assert_eq!(world.dropped(), 2, "factory and consumer, {placement:?} {when:?}");
            }
            let dropped = Arc::clone(&world.dropped);
            world.check(5..9);
            assert_eq!(dropped.load(Ordering::SeqCst), 2, "{placement:?} {when:?}");
        }
    }
}
