//! Inline: a consumer that is handed its deliveries on its shard's own thread. What it is owed and
//! has reported lies with the shard; its mailbox, which is another cache line, is left alone unless
//! somebody else looks at it: a reporter outside the handler, or the watch, because it owes.

use super::api::{Consumer, ConsumerError};
use super::contain::panic_text;
use super::delivery::{Context, Delivery, Given};
use super::mailbox::Mailbox;
use super::part::Tally;
use crate::words::Lsn;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a shard keeps of an inline consumer beside the consumer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InlineState {
    /// Its factory took a reporter, so reports may come from anywhere at any time.
    pub(crate) has_reporter: bool,
    /// Its mailbox says that it owes.
    pub(crate) shows_debt: bool,
}

/// How a handler ended.
type Handled = Result<Result<(), ConsumerError>, Box<dyn Any + Send>>;

/// Hands a delivery over, after `handed` was; what the consumer has reported, if anything. An error
/// is a death.
#[inline]
pub(crate) fn hand_inline(
    consumer: &mut dyn Consumer,
    state: &mut InlineState,
    mailbox: &Mailbox,
    handed: Lsn,
    given: &Given<'_>,
    tally: &mut Tally,
) -> Result<Lsn, ConsumerError> {
    let commit = given.fragment.commit_lsn();
    let handed = if given.commits { commit } else { handed };
    if given.commits && state.has_reporter {
        mailbox.set_handed(commit);
    }
    let mut reported = Lsn::ZERO;
    let mut context = Context::new(mailbox, handed, &mut reported);
    let delivery = Delivery { mailbox, given };
    let handler = AssertUnwindSafe(|| consumer.handle(&delivery, &mut context));
    let handled = catch_unwind(handler);
    let exits = context.exits();
    let owes = given.commits && reported < commit;
    if matches!(handled, Ok(Ok(()))) && !(owes || exits || state.has_reporter || state.shows_debt) {
        return Ok(reported);
    }
    show(state, mailbox, if owes { commit } else { Lsn::ZERO }, reported);
    end(handled, exits, given, tally).map(|()| reported)
}

/// Shows in its mailbox what the consumer was handed and has reported.
#[cold]
fn show(state: &mut InlineState, mailbox: &Mailbox, handed: Lsn, reported: Lsn) {
    mailbox.set_handed(mailbox.handed().max(handed));
    mailbox.raise_flushed(reported);
    // Until it has reported all that it shows: the watch goes by that.
    state.shows_debt = mailbox.flushed() < mailbox.handed();
}

/// What a handler's end means.
#[cold]
fn end(
    handled: Handled,
    exits: bool,
    given: &Given<'_>,
    tally: &mut Tally,
) -> Result<(), ConsumerError> {
    handled.unwrap_or_else(|panic| Err(panic_text(panic).into()))?;
    if exits {
        // It has handled this one; who lives is counted with all the others.
        tally.handled += u64::from(given.change.is_some());
        tally.commits += u64::from(given.commits);
        return Err("the consumer asked to exit".into());
    }
    Ok(())
}
