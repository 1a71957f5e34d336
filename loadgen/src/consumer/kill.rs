//! Kill: the ways in which a consumer is made to die, all of them panics, and the counts of what
//! was armed and what happened.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a consumer dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KillKind {
    /// In its handler, before it has counted the delivery.
    Handler,
    /// In its handler, and its factory panics at the next start.
    Factory,
    /// In its handler, after other changes of the same transaction and before its commit.
    MidTransaction,
    /// In its handler, with a commit handled and not reported and more messages in its mailbox.
    Queued,
}

impl KillKind {
    pub(crate) const ALL: [KillKind; 4] =
        [KillKind::Handler, KillKind::Factory, KillKind::MidTransaction, KillKind::Queued];

    /// The name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            KillKind::Handler => "handler",
            KillKind::Factory => "factory",
            KillKind::MidTransaction => "mid_transaction",
            KillKind::Queued => "queued_unreported",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What a consumer is to do, in one byte a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Live.
    Live,
    /// Die.
    Die(KillKind),
    /// The factory is to panic at the next start.
    FailStart,
}

impl Order {
    pub(crate) const LIVE: u8 = 0;
    const FAIL_START: u8 = 5;

    pub(crate) fn from_byte(byte: u8) -> Order {
        match byte {
            1 => Order::Die(KillKind::Handler),
            2 => Order::Die(KillKind::Factory),
            3 => Order::Die(KillKind::MidTransaction),
            4 => Order::Die(KillKind::Queued),
            Order::FAIL_START => Order::FailStart,
            _ => Order::Live,
        }
    }

    pub(crate) fn byte(self) -> u8 {
        match self {
            Order::Live => Order::LIVE,
            Order::Die(kind) => kind as u8 + 1,
            Order::FailStart => Order::FAIL_START,
        }
    }
}

/// Counts a kind.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    armed: [AtomicU64; 4],
    done: [AtomicU64; 4],
    failed_starts: AtomicU64,
}

// Relaxed throughout: statistics, and a bound that may be off by a few.
impl Kills {
    /// A consumer is armed to die so.
    pub(crate) fn arm(&self, kind: KillKind) {
        self.armed[kind.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// A consumer dies so, now.
    pub(crate) fn die(&self, kind: KillKind) {
        self.done[kind.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// A factory panics, now.
    pub(crate) fn fail_start(&self) {
        self.failed_starts.fetch_add(1, Ordering::Relaxed);
    }

    /// Consumers that are armed to die so and still live.
    pub(crate) fn waiting(&self, kind: KillKind) -> u64 {
        let armed = self.armed[kind.index()].load(Ordering::Relaxed);
        armed.saturating_sub(self.done(kind))
    }

    /// Consumers that died so.
    pub(crate) fn done(&self, kind: KillKind) -> u64 {
        self.done[kind.index()].load(Ordering::Relaxed)
    }

    /// Consumers that died, in whatever way.
    pub(crate) fn total(&self) -> u64 {
        KillKind::ALL.iter().map(|kind| self.done(*kind)).sum()
    }

    /// Factories that panicked.
    pub(crate) fn failed_starts(&self) -> u64 {
        self.failed_starts.load(Ordering::Relaxed)
    }
}

/// What every kill's panic starts with.
const KILL_TEXT: &str = "killed by loadgen";

/// Panics, so that the consumer dies.
pub(crate) fn kill(kind: KillKind) -> ! {
    panic!("{KILL_TEXT} ({})", kind.name())
}

/// Keeps the panics of kills off the terminal. All others are shown as ever.
pub(crate) fn silence_kills() {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>();
        let killed = text.is_some_and(|text| text.starts_with(KILL_TEXT));
        if !killed {
            shown(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_their_byte() {
        let orders = KillKind::ALL.map(Order::Die);
        for order in orders.into_iter().chain([Order::Live, Order::FailStart]) {
            assert_eq!(Order::from_byte(order.byte()), order);
        }
    }
}
