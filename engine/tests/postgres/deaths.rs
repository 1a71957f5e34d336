//! Deaths: consumers are killed by the thousand while several connections write, and the slot still
//! reaches the end of the WAL: what the project was started for.

use crate::world::{World, items};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Once};
use walfan::{
    Ack, Consumer, ConsumerError, ConsumerSpec, Context, Delivery, Lsn, Offset, Start, Started,
};

const SHAPES: usize = 200;
const WRITERS: u64 = 3;
const TRANSACTIONS: u64 = 20;
const PLANNED: &str = "a planned death";

/// What one shape's incarnations have done, together.
#[derive(Default)]
struct Ledger {
    /// Offsets of the changes that were handled and flushed.
    flushed: BTreeSet<Offset>,
    /// Handled since the last flush of this incarnation.
    handled: Vec<Offset>,
    /// Whether the shape may be killed: it has flushed since its last death.
    moved: bool,
    /// The place of its next death, of several kinds.
    turn: usize,
    deaths: u64,
}

/// Dies in turn in the middle of a transaction, with a commit that it has not reported, right after
/// a report, and in its factory.
struct Mortal {
    ledger: Arc<Mutex<Ledger>>,
}

impl Consumer for Mortal {
    fn handle(
        &mut self,
        delivery: &Delivery<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), ConsumerError> {
        let mut ledger = self.ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let dies = ledger.moved && ledger.turn % 4 != 3;
        if dies && ledger.turn.is_multiple_of(4) && delivery.commit().is_none() {
            die(&mut ledger);
        }
        if delivery.operation().is_some() {
            ledger.handled.push(delivery.offset());
        }
        let Some(commit) = delivery.commit() else { return Ok(()) };
        if dies && ledger.turn % 4 == 1 {
            die(&mut ledger);
        }
        let handled = std::mem::take(&mut ledger.handled);
        ledger.flushed.extend(handled);
        ledger.moved = true;
        context.flushed(commit)?;
        if dies && ledger.turn % 4 == 2 {
            ledger.turn += 1;
            ledger.deaths += 1;
            context.exit();
        }
        Ok(())
    }
}

fn die(ledger: &mut Ledger) -> ! {
    ledger.turn += 1;
    ledger.deaths += 1;
    ledger.moved = false;
    panic!("{PLANNED}");
}

fn mortal(ledger: &Arc<Mutex<Ledger>>) -> ConsumerSpec {
    let ledger = Arc::clone(ledger);
    let factory = move |start: &Start<'_>| {
        let mut own = ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        own.handled.clear();
        if own.turn % 4 == 3 {
            die(&mut own);
        }
        drop(own);
        let consumer = Box::new(Mortal { ledger: Arc::clone(&ledger) });
        Ok(Started::new(consumer, start.resume()))
    };
    ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer }
}

/// Thousands of planned panics would hide everything else in the output.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            if text.or(payload.downcast_ref::<&str>().copied()) != Some(PLANNED) {
                print(panic);
            }
        }));
    });
}

#[test]
fn the_slot_reaches_the_end_after_thousands_of_kills() {
    hush();
    let world = World::new();
    let ledgers: Vec<_> = (0..SHAPES).map(|_| Arc::new(Mutex::new(Ledger::default()))).collect();
    let shapes = ledgers.iter().enumerate().map(|(number, ledger)| {
        (items(&format!("kind = 'hot' OR id = {}", 1_000_000 + number)), mortal(ledger))
    });
    let handles = world.engine.add_shapes(shapes.collect()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut session = world.cluster.session().unwrap();
            scope.spawn(move || {
                for number in 0..TRANSACTIONS {
                    let first = (number * WRITERS + writer) * 3;
                    let insert = format!(
                        "INSERT INTO items SELECT n, 'hot', 'x' \
                         FROM generate_series({first}, {first} + 2) n"
                    );
                    session.run(&insert).unwrap();
                }
            });
        }
    });
    world.wait_confirmed_end();
    let metrics = world.engine.metrics();
    let deaths: u64 =
        ledgers.iter().map(|ledger| ledger.lock().unwrap_or_else(|p| p.into_inner()).deaths).sum();
    assert!(deaths > 2_000, "{deaths} deaths are too few");
    assert_eq!((metrics.undeliverable, metrics.invalidated), (0, 0));
    assert!(metrics.deaths >= deaths, "{} counted, {deaths} died", metrics.deaths);
    let expected = (WRITERS * TRANSACTIONS * 3) as usize;
    for (ledger, handle) in ledgers.iter().zip(handles) {
        let ledger = ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        assert_eq!(ledger.flushed.len(), expected, "shape {handle} flushed with a gap");
    }
    assert!(world.engine.flushed_lsn() > Lsn::ZERO);
}
