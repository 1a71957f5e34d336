//! Delivery: what is published reaches the shapes that it matches, once and in order, in every
//! placement, and the flushed LSN follows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::{Arc, Mutex};
use support::*;
use walfan::{Ack, ConsumerSpec, Lsn, Value};

#[test]
fn every_placement_sees_each_matching_change_once_and_in_order() {
    let items = items();
    for directory in [None, Some(tempfile::tempdir().unwrap())] {
        let builder = match &directory {
            Some(dir) => small().directory(dir.path()),
            None => small(),
        };
        let (engine, mut publisher) = builder.start().unwrap();
        engine.learn(Arc::clone(&items));
        let mut consumers = Vec::new();
        for placement in PLACEMENTS {
            for ack in [Ack::Consumer, Ack::Log] {
                let (all, hot) = (Seen::default(), Seen::default());
                let whole = recorder(placement, ack, &all, reports());
                engine.add_shape(shape(""), whole).unwrap();
                let some = recorder(placement, ack, &hot, reports());
                engine.add_shape(shape("kind = 'hot' OR id = 7"), some).unwrap();
                consumers.push((all, hot));
            }
        }
        let log = engine.add_shape(shape("kind = 'hot'"), ConsumerSpec::Log).unwrap();
        publish_rows(&mut publisher, &items, 5..105, "cold");
        publish_rows(&mut publisher, &items, 105..205, "hot");
        assert_eq!(engine.wait_flushed(Lsn::new(204), LONG).unwrap(), Lsn::new(204));
        for (all, hot) in &consumers {
            wait_until("the last delivery", || {
                joined(hot).len() == 101 && joined(all).len() == 200
            });
            assert_eq!(joined(all), firsts(5..205));
            let expected = [firsts(7..8), firsts(105..205)].concat();
            assert_eq!(joined(hot), expected);
            assert_eq!(hot.lock().unwrap().len(), 101, "something was seen twice");
        }
        if directory.is_some() {
            assert_eq!(log_of(&engine, log), firsts(105..205));
        }
        let report = engine.shutdown(LONG).unwrap();
        assert!(report.wedged.is_empty(), "{report:?}");
        assert!(report.shards.iter().all(|shard| shard.flushed == Lsn::new(204)));
    }
}

/// Every consumer is handed the one row that was published; nobody has a copy.
#[test]
fn f02_a_row_is_handed_to_all_and_copied_for_none() {
    let items = items();
    let (engine, mut publisher) = small().start().unwrap();
    engine.learn(Arc::clone(&items));
    let places: Arc<Mutex<Vec<usize>>> = Arc::default();
    for number in 0..40 {
        let places = Arc::clone(&places);
        let script: Script = Arc::new(move |delivery, _| {
            let row = delivery.new_row().ok_or("a row comes")?;
            let Some(Value::Text(kind)) = row.get(1) else { return Err("it has a kind".into()) };
            places.lock().unwrap().push(kind.as_ptr() as usize);
            Ok(Report::Yes)
        });
        let placement = PLACEMENTS[number % 2];
        let spec = recorder(placement, Ack::Consumer, &Seen::default(), script);
        engine.add_shape(shape("kind = 'a'"), spec).unwrap();
    }
    wait_until("all run", || engine.metrics().lagging == 0);
    publish_rows(&mut publisher, &items, 1..2, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(1), LONG).unwrap(), Lsn::new(1));
    let mut places = places.lock().unwrap().clone();
    assert_eq!(places.len(), 40);
    places.dedup();
    assert_eq!(places.len(), 1);
}
