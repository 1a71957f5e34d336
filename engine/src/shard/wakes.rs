//! Wakes: mailboxes that have something new, gathered so that the pool is told once a batch.

use crate::consumer::Mailbox;
use crate::run::Pool;
use std::sync::Arc;

/// Mailboxes in one batch: what a runner takes at a time. Larger ones cost less to hand over and
/// spread worse.
const BATCH: usize = 128;

#[derive(Default)]
pub(super) struct Wakes {
    batch: Vec<Arc<Mailbox>>,
    /// Full ones. As many as a slice of a wave fills.
    full: Vec<Vec<Arc<Mailbox>>>,
}

impl Wakes {
    /// Has the mailbox's part run after the next `flush`, unless that is under way already.
    pub(super) fn wake(&mut self, mailbox: &Arc<Mailbox>) {
        let queue = mailbox.seat().notify();
        self.gather(mailbox, queue);
    }

    /// As `wake`, after one message was sent to it.
    #[inline]
    pub(super) fn wake_for_mail(&mut self, mailbox: &Arc<Mailbox>) {
        let queue = mailbox.seat().notify_of_mail();
        self.gather(mailbox, queue);
    }

    #[inline]
    fn gather(&mut self, mailbox: &Arc<Mailbox>, queue: bool) {
        if queue {
            self.batch.push(Arc::clone(mailbox));
            if self.batch.len() == BATCH {
                self.full.push(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH)));
            }
        }
    }

    /// Hands over what was gathered.
    pub(super) fn flush(&mut self, pool: &Pool) {
        self.full.drain(..).for_each(|batch| pool.run_batch(batch));
        if !self.batch.is_empty() {
            pool.run_batch(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH)));
        }
    }
}
