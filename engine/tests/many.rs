//! Many: more shapes are more state, and nothing else: no file, no thread and no work for those to
//! which nothing happens. Alone in its process, whose threads it counts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use support::*;
use walfan::{Ack, ConsumerSpec, Lsn};

const SHAPES: u64 = 12_000;

/// Files of the directory, and threads of the process (where the system tells).
fn counted(dir: &Path) -> (usize, usize) {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    (std::fs::read_dir(dir).unwrap().count(), threads)
}

#[test]
fn e01_e02_e06_many_shapes_are_neither_files_nor_threads() {
    let dir = tempfile::tempdir().unwrap();
    let items = items();
    let (engine, mut publisher) = small().directory(dir.path()).start().unwrap();
    engine.learn(Arc::clone(&items));
    let seen = Seen::default();
    let first = engine.add_shape(shape(""), ConsumerSpec::Log).unwrap();
    let before = counted(dir.path());
    let shapes = (0..SHAPES).map(|id| {
        let spec = match id % 10 {
            0 => recorder(Placement::Mailbox, Ack::Consumer, &seen, reports()),
            _ => ConsumerSpec::Log,
        };
        (shape(&format!("id = {id}")), spec)
    });
    let handles = engine.add_shapes(shapes.collect()).unwrap();
    wait_until("all run", || engine.metrics().lagging == 0);
    assert_eq!(counted(dir.path()), before);
    publish_rows(&mut publisher, &items, 1..31, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(30), LONG).unwrap(), Lsn::new(30));
    let metrics = engine.metrics();
    // Three of them are a consumer's.
    assert_eq!((metrics.logged, metrics.handled, metrics.sent), (60, 3, 3));
    engine.shutdown(LONG).unwrap();
    drop((engine, publisher));
    let (engine, mut publisher) = small().directory(dir.path()).start().unwrap();
    assert_eq!((engine.metrics().shapes, engine.shapes().len() as u64), (SHAPES + 1, SHAPES + 1));
    assert_eq!(counted(dir.path()), before);
    publish_rows(&mut publisher, &items, 31..41, "a");
    assert_eq!(engine.wait_flushed(Lsn::new(40), LONG).unwrap(), Lsn::new(40));
    assert_eq!(log_of(&engine, first), firsts(1..41));
    assert_eq!(log_of(&engine, handles[40]), firsts(40..41));
    assert_eq!(log_of(&engine, handles[41]), []);
}
