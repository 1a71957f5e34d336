//! Inline: a consumer that is handed its deliveries on its shard's own thread. What it is owed and
//! has reported lies with the shard; its mailbox, which is another cache line, is left alone unless
//! somebody else looks at it: a reporter outside the handler, or the watch, because it owes.

use super::api::{Consumer, ConsumerError};
use super::delivery::Delivery;
use super::mailbox::Mailbox;
use super::part::{Due, Hands, call, panic_text};
use crate::words::{Fragment, Lsn, Offset, Slot};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a shard keeps of an inline consumer beside the consumer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InlineState {
    /// Its factory took a reporter, so reports may come from anywhere at any time.
    pub(crate) has_reporter: bool,
    /// Its mailbox says that it owes.
    pub(crate) shows_debt: bool,
}

/// To whom a delivery is handed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipient<'a> {
    pub(crate) shard: usize,
    pub(crate) slot: Slot,
    pub(crate) mailbox: &'a Mailbox,
    /// The last commit that was handed over before.
    pub(crate) handed: Lsn,
}

/// Hands the delivery at `offset` over; what the consumer has reported, if anything. An error is a
/// death.
#[inline]
pub(crate) fn hand_inline(
    consumer: &mut dyn Consumer,
    state: &mut InlineState,
    to: Recipient<'_>,
    fragment: &Fragment,
    due: Due,
    offset: Offset,
    hands: &mut Hands,
) -> Result<Lsn, (Offset, ConsumerError)> {
    let Recipient { shard, slot, mailbox, handed } = to;
    let commit = fragment.commit_lsn();
    hands.pulse.enter_slot(shard, slot);
    if due.commits && state.has_reporter {
        mailbox.set_handed(commit);
    }
    let delivery = Delivery { mailbox, fragment, change: due.what, commits: due.commits };
    let handed = if due.commits { commit } else { handed };
    let handler = || call(consumer, &delivery, offset, handed, hands);
    let (reported, result) = match catch_unwind(AssertUnwindSafe(handler)) {
        Ok(handled) => handled,
        Err(panic) => (hands.reported, Err(panic_text(panic.as_ref()).into())),
    };
    let owes = due.commits && reported < commit;
    if owes || state.shows_debt || state.has_reporter || result.is_err() {
        mailbox.set_handed(mailbox.handed().max(if owes { commit } else { Lsn::ZERO }));
        mailbox.raise_flushed(reported);
        // Until it has reported all that it shows: the watch goes by that.
        state.shows_debt = mailbox.flushed() < mailbox.handed();
    }
    result.map(|()| reported).map_err(|cause| (offset, cause))
}
