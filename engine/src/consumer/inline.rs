//! Inline: a consumer that is handed its deliveries on its shard's own thread. What it is owed and
//! has reported lies with the shard; its mailbox, which is another cache line, is left alone unless
//! somebody else looks at it: a reporter outside the handler, or the watch, because it owes.

use super::api::{Consumer, ConsumerError};
use super::contain::panic_text;
use super::delivery::{Context, Delivery, Given};
use super::hands::Tally;
use super::mailbox::Mailbox;
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

impl InlineState {
    /// Whether its mailbox is to be told of what it is handed and reports.
    pub(crate) fn is_watched(self) -> bool {
        self.has_reporter || self.shows_debt
    }
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
    if matches!(handled, Ok(Ok(()))) && !(owes || exits || state.is_watched()) {
        return Ok(reported);
    }
    show(state, mailbox, if owes { commit } else { Lsn::ZERO }, reported);
    end(handled, exits, given, tally).map(|()| reported)
}

/// How far deliveries that were handed over one after another went.
pub(crate) struct Streak {
    /// So many were handled, and reported at once.
    pub(crate) done: usize,
    /// What came of the one after them, if there was one: it was not reported, or was the end.
    pub(crate) then: Option<Result<Lsn, ConsumerError>>,
}

/// Hands deliveries over that each bring their commit, to a consumer that is not watched.
#[inline]
pub(crate) fn hand_streak<'a>(
    consumer: &mut dyn Consumer,
    state: &mut InlineState,
    mailbox: &Mailbox,
    givens: impl Iterator<Item = &'a Given<'a>>,
    tally: &mut Tally,
) -> Streak {
    let (mut done, mut at) = (0, None);
    let (mut reported, mut exits) = (Lsn::ZERO, false);
    let handler = AssertUnwindSafe(|| {
        for given in givens {
            (at, reported) = (Some(given), Lsn::ZERO);
            let commit = given.fragment.commit_lsn();
            let mut context = Context::new(mailbox, commit, &mut reported);
            let handled = consumer.handle(&Delivery { mailbox, given }, &mut context);
            exits = context.exits();
            handled?;
            if exits || reported < commit {
                return Ok(());
            }
            done += 1;
        }
        at = None;
        Ok(())
    });
    let handled = catch_unwind(handler);
    let Some(given) = at else { return Streak { done, then: None } };
    let commit = given.fragment.commit_lsn();
    show(state, mailbox, if reported < commit { commit } else { Lsn::ZERO }, reported);
    Streak { done, then: Some(end(handled, exits, given, tally).map(|()| reported)) }
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
