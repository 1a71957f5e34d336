//! Settle: the life that ends a round. Nothing is done to it: it publishes what may be missing,
//! waits until everybody has everything, and reads the sampled logs in full.

use super::life::Alive;
use super::plan::Role;
use super::publish::Publishing;
use super::said::{Said, say, say_wrong};
use crate::verify::{Oracle, check_logs};
use crate::workload::{History, Workload};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use walfan::{Handle, Lsn, Publisher};

/// So many transactions more than were ever published: the round ends on ground of its own.
const MORE: u64 = 8;
const WINDOW: u64 = 512;
const LOOK: Duration = Duration::from_millis(5);
/// How long nothing may move.
const STILL_MAX: Duration = Duration::from_secs(60);

/// See the file's head.
pub(super) fn settle(
    mut alive: Alive,
    publisher: Publisher,
    through: u64,
    sample: &[u32],
) -> Result<ExitCode, String> {
    let durable = alive.durable().into_iter().max().unwrap_or(0);
    let end = through.max(Workload::transactions_through(Lsn::new(durable))) + MORE;
    let publishing = Publishing::through(&alive, publisher, WINDOW, end)?;
    let last = Workload::lsn(end - 1);
    let oracle = Oracle::new(History::numbered(&alive.plan.workload(), end));
    let (mut before, mut moved) = (None, Instant::now());
    loop {
        if let Err(cause) = alive.look(LOOK) {
            return alive.aftermath(cause);
        }
        let flushed = alive.engine.flushed_lsn();
        let behind = behind(&alive, &oracle)?;
        if flushed >= last && behind.is_none() && publishing.is_done() {
            break;
        }
        let now = Some((flushed, behind, alive.engine.metrics().handled));
        if now != before {
            (before, moved) = (now, Instant::now());
        }
        if moved.elapsed() > STILL_MAX {
            let (metrics, health) = (alive.engine.metrics(), alive.engine.health());
            return Err(format!(
                "stuck: flushed {flushed} of {last}, shape {behind:?} has not everything; \
                 {health:?}; {metrics:?}"
            ));
        }
    }
    let publisher = publishing.join()?;
    alive.confirm()?;
    let living = living(&alive);
    let chosen: Vec<_> = living.into_iter().filter(|(shape, _)| sample.contains(shape)).collect();
    let threads = crate::host::cores();
    let (read, findings) = check_logs(&alive.engine, &oracle, &chosen, threads, &|_| ());
    if !findings.is_empty() {
        say_wrong(findings.to_string());
    }
    say(&Said::Settled { transactions: end, logs: read.shapes, changes: read.changes });
    drop(publisher);
    alive.stop()
}

/// Shapes that live, by number.
fn living(alive: &Alive) -> Vec<(u32, Handle)> {
    let handles = (0..).zip(alive.plan.handles.iter().map(|handle| Handle::new(*handle)));
    let living: std::collections::HashSet<_> =
        alive.engine.shapes().into_iter().map(|(handle, _)| handle).collect();
    handles.filter(|(_, handle)| living.contains(handle)).collect()
}

/// A shape that lives and whose consumer has not flushed everything.
fn behind(alive: &Alive, oracle: &Oracle) -> Result<Option<u32>, String> {
    for (shape, _) in living(alive) {
        if Role::of(shape) == Role::Log {
            continue;
        }
        let prefix = alive.crowd.journal().read(shape);
        let prefix = prefix.map_err(|error| format!("the journal: {error}"))?;
        // What it has beside that is compared when the round is over.
        if prefix.through < oracle.share(shape).last {
            return Ok(Some(shape));
        }
    }
    Ok(None)
}
