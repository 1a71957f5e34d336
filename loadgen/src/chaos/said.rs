//! Said: what a life of the engine's process tells, a line of JSON each on its standard output.
//! What was written there before a kill is still read.

use serde::{Deserialize, Serialize};
use std::io::Write;

/// See the file's head. LSNs are numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// The engine is open: the floor, the flushed LSN, what is durable in each shard, and which
    /// shapes, by number, are there no more.
    Opened { floor: u64, flushed: u64, durable: Vec<u64>, missing: Vec<u32> },
    /// The engine could not be opened.
    Refused { cause: String },
    /// The shapes are added; their handles, by number.
    Added { handles: Vec<u64> },
    /// So many transactions are published, counted from the first there ever was.
    Published { transactions: u64 },
    /// Everything through here is flushed.
    Flushed { lsn: u64 },
    /// A source would now forget what lies below.
    Confirmed { lsn: u64 },
    /// A shape is invalidated.
    Gone { shape: u32, cause: String },
    /// So many consumers are wedged by now.
    Wedged { consumers: u64 },
    /// Health has turned red.
    Red { cause: String },
    /// The engine has failed; then it was watched for a while.
    Failed { cause: String },
    /// What must never be.
    Wrong { what: String },
    /// Asked to end, it did.
    Stopped { ms: u64, durable: Vec<u64>, flushed: Vec<u64>, owing: u64, wedged: Vec<String> },
    /// Everybody has everything.
    Settled { transactions: u64, logs: u64, changes: u64 },
}

/// Tells `said`. Whoever listened may be gone; then nobody wants to hear it.
pub(crate) fn say(said: &Said) {
    if let Ok(mut line) = serde_json::to_string(said) {
        line.push('\n');
        let mut out = std::io::stdout().lock();
        // One write a line, so that a kill leaves whole lines or a last one that is cut off.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

/// What must never be.
pub(crate) fn say_wrong(what: String) {
    say(&Said::Wrong { what });
}

/// A line as it was told; `None` for one that was cut off.
pub(crate) fn hear(line: &str) -> Option<Said> {
    serde_json::from_str(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_and_a_cut_line_is_not() {
        let said = Said::Gone { shape: 3, cause: "a \"quoted\"\ncause".into() };
        let line = serde_json::to_string(&said).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(hear(&line), Some(said));
        assert_eq!(hear(&line[..line.len() - 1]), None);
    }
}
