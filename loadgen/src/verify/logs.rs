//! Logs against the oracle: shapes are read from their first offset to the end, as a reader would,
//! and each matching change has to be there once, in order, with its row. All readers go through
//! the log side by side, so that one decoded block serves many.

use super::Findings;
use super::oracle::{Oracle, Walk};
use std::collections::VecDeque;
use std::thread;
use std::time::Instant;
use walfan::{Engine, Handle, LoggedChange, Offset, Operation, ReadLimits, Value};

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogsRead {
    pub(crate) shapes: u64,
    pub(crate) changes: u64,
    pub(crate) seconds: f64,
}

/// Reads the logs of `shapes` (number and handle) in full with `threads` threads. `tell` hears,
/// now and then, how many more shapes are done.
pub(crate) fn check_logs(
    engine: &Engine,
    oracle: &Oracle,
    shapes: &[(u32, Handle)],
    threads: usize,
    tell: &(dyn Fn(u64) + Sync),
) -> (LogsRead, Findings) {
    let start = Instant::now();
    let mut read = LogsRead::default();
    let mut findings = Findings::default();
    let part = shapes.len().div_ceil(threads.max(1)).max(1);
    thread::scope(|scope| {
        let parts = shapes.chunks(part);
        let spawn = |part| scope.spawn(move || Readers::new(engine, oracle, part).run(tell));
        let readers: Vec<_> = parts.map(spawn).collect();
        for reader in readers {
            match reader.join() {
                Ok((changes, found)) => {
                    read.changes += changes;
                    findings.merge(found);
                }
                Err(_) => findings.add("a reader of logs panicked".into()),
            }
        }
    });
    read.shapes = shapes.len() as u64;
    read.seconds = start.elapsed().as_secs_f64();
    (read, findings)
}

/// A shape that is being read.
struct Reader {
    shape: u32,
    handle: Handle,
    after: Offset,
    walk: Walk,
}

/// The readers of one thread.
struct Readers<'a> {
    engine: &'a Engine,
    oracle: &'a Oracle,
    waiting: VecDeque<Reader>,
    changes: u64,
    findings: Findings,
}

impl<'a> Readers<'a> {
    fn new(engine: &'a Engine, oracle: &'a Oracle, shapes: &[(u32, Handle)]) -> Readers<'a> {
        let reader = |&(shape, handle)| Reader {
            shape,
            handle,
            after: Offset::ZERO,
            walk: oracle.walk(shape),
        };
        let waiting = shapes.iter().map(reader).collect();
        Readers { engine, oracle, waiting, changes: 0, findings: Findings::default() }
    }

    fn run(mut self, tell: &(dyn Fn(u64) + Sync)) -> (u64, Findings) {
        // The front one reads one page and goes to the end of the line.
        while let Some(mut reader) = self.waiting.pop_front() {
            match self.page(&mut reader) {
                Ok(true) => self.waiting.push_back(reader),
                Ok(false) => tell(1),
                Err(finding) => {
                    self.findings.add(format!("shape {}: {finding}", reader.shape));
                    tell(1);
                }
            }
        }
        (self.changes, self.findings)
    }

    /// Reads and checks one page; false when the shape is done.
    fn page(&mut self, reader: &mut Reader) -> Result<bool, String> {
        let page = self.engine.read(reader.handle, reader.after, ReadLimits::default());
        let page = page.map_err(|error| format!("its log cannot be read: {error}"))?;
        for change in &page.changes {
            check(change, reader, self.oracle)?;
        }
        self.changes += page.changes.len() as u64;
        if page.up_to_date {
            return match reader.walk.next(self.oracle) {
                Some(expected) => Err(format!("its log ends before {}", expected.offset)),
                None => Ok(false),
            };
        }
        if page.through <= reader.after {
            let through = page.through;
            return Err(format!("its log has more after {through}, but a read does not move on"));
        }
        reader.after = page.through;
        Ok(true)
    }
}

fn check(change: &LoggedChange, reader: &mut Reader, oracle: &Oracle) -> Result<(), String> {
    let offset = change.offset();
    let Some(expected) = reader.walk.next(oracle) else {
        return Err(format!("its log goes on with {offset} after its last change"));
    };
    if offset != expected.offset {
        return Err(format!("its log has {offset} where {} belongs", expected.offset));
    }
    if change.operation() != Operation::Insert {
        return Err(format!("its log has {} at {offset}, not an insert", change.operation()));
    }
    let id = match change.new_row().and_then(|row| row.get(0)) {
        Some(Value::Text(text)) => std::str::from_utf8(text).ok().and_then(|id| id.parse().ok()),
        _ => None,
    };
    if id != Some(expected.id) {
        return Err(format!("its log has another row at {offset} than was written"));
    }
    Ok(())
}
