//! Feeder: engine code, one a shard, that runs on the runner pool. Members come in, pieces of the
//! log go into their lanes. Members that need the same block share one decode of it (a cohort); a
//! block that holds nothing for a member costs it nothing.

use crate::consumer::{Feed, Mailbox, Member, Note, ShardLink, Sitter};
use crate::log::{Chunk, Log, LogError};
use crate::words::Offset;
use crossbeam_channel::Receiver;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many new members one step admits, so that a step stays short.
const ADMITTED_MAX: usize = 4_096;

/// Lays a feed down; called with each mailbox that has something to do.
pub(crate) type WakeMailbox<'a> = &'a mut dyn FnMut(&Arc<Mailbox>);

#[derive(Debug)]
pub(crate) struct Feeder {
    link: Arc<ShardLink>,
    log: Arc<Log>,
    members: Receiver<Member>,
    /// By the block that they need next. Bounded, as is `joining`, by the shard's consumers.
    cohorts: BTreeMap<u64, Vec<Member>>,
    /// At the readable end, before a boundary that is not durable yet.
    joining: Vec<Member>,
    /// Every second turn goes to the farthest cohort, so that nobody waits for ever.
    farthest: bool,
}

impl Sitter for Feeder {
    /// It is sent none.
    fn announce(&mut self, _: u32) {}
}

impl Feeder {
    pub(crate) fn new(link: Arc<ShardLink>, log: Arc<Log>, members: Receiver<Member>) -> Feeder {
        Feeder {
            link,
            log,
            members,
            cohorts: BTreeMap::new(),
            joining: Vec::new(),
            farthest: false,
        }
    }

    /// Admits who came, and feeds one cohort. True: there is more to do now.
    pub(crate) fn step(&mut self, wake: WakeMailbox<'_>) -> Result<bool, LogError> {
        let mut spoke = false;
        let admitted: Vec<_> = self.members.try_iter().take(ADMITTED_MAX).collect();
        for member in admitted {
            spoke |= self.admit(member, wake);
        }
        spoke |= self.feed_cohort(wake)?;
        // Last, because everything above may have left members there: whoever is left when this
        // returns is woken by the sync that covers its boundary.
        if !self.joining.is_empty() {
            let durable = self.link.await_sync();
            let ready = |member: &mut Member| member.boundary.is_none_or(|b| b <= durable);
            let ready: Vec<_> = self.joining.extract_if(.., ready).collect();
            for member in ready {
                spoke |= self.admit(member, wake);
            }
        }
        if spoke {
            self.link.wake.notify();
        }
        Ok(!self.cohorts.is_empty() || !self.members.is_empty())
    }

    /// Finds a member's place. True: a note was left for the shard.
    fn admit(&mut self, member: Member, wake: WakeMailbox<'_>) -> bool {
        if member.mailbox.is_closed() {
            return false;
        }
        if self.is_behind(&member) {
            member.mailbox.leave(Note::Behind(member.position));
            return true;
        }
        let reached = |b| Offset::commit_mark(b) <= member.position;
        if member.boundary.is_some_and(reached) {
            let through = member.position;
            lay_down(&member, Feed { chunk: None, through, boundary: None, join: true }, wake);
            return false;
        }
        // Before looking for more: what is durable by now is then found.
        let durable = self.link.durable_through();
        if let Some(block) = self.log.locate(member.position) {
            self.cohorts.entry(block).or_default().push(member);
            return false;
        }
        match member.boundary {
            None => {
                member.mailbox.leave(Note::Caught(member.position));
                true
            }
            Some(boundary) if boundary <= durable => {
                let through = Offset::commit_mark(boundary);
                lay_down(&member, Feed { chunk: None, through, boundary: None, join: true }, wake);
                false
            }
            Some(_) => {
                self.joining.push(member);
                false
            }
        }
    }

    /// Whether something of its shape was dropped that it needs. To be asked after the chunk was
    /// read that it is to be fed from: what is dropped later is still in there.
    fn is_behind(&self, member: &Member) -> bool {
        member.position < self.log.start_of(member.mailbox.name().slot)
    }

    fn feed_cohort(&mut self, wake: WakeMailbox<'_>) -> Result<bool, LogError> {
        self.farthest = !self.farthest;
        let next = if self.farthest { self.cohorts.pop_first() } else { self.cohorts.pop_last() };
        let Some((_, cohort)) = next else { return Ok(false) };
        let mut spoke = false;
        let Some(from) = cohort.iter().map(|member| member.position).min() else {
            return Ok(false);
        };
        let chunk = match self.log.read(from) {
            // Dropped since they came here: who stands there is told so.
            Err(LogError::BelowStart { .. }) => None,
            chunk => chunk?,
        };
        for member in cohort {
            spoke |= match &chunk {
                Some(chunk) if !member.mailbox.is_closed() && !self.is_behind(&member) => {
                    self.feed_member(member, chunk, wake)
                }
                // What was there was dropped meanwhile, or the consumer is gone.
                _ => self.admit(member, wake),
            };
        }
        Ok(spoke)
    }

    fn feed_member(
        &mut self,
        mut member: Member,
        chunk: &Arc<Chunk>,
        wake: WakeMailbox<'_>,
    ) -> bool {
        let boundary = member.boundary.map(Offset::commit_mark);
        let join = boundary.is_some_and(|boundary| boundary <= chunk.through);
        let through = boundary.map_or(chunk.through, |boundary| boundary.min(chunk.through));
        let slot = member.mailbox.name().slot.as_u32();
        let touched = member.open || chunk.touched.contains(slot);
        if !touched && !join {
            member.position = member.position.max(through);
            return self.admit(member, wake);
        }
        let chunk = touched.then(|| Arc::clone(chunk));
        lay_down(&member, Feed { chunk, through, boundary: member.boundary, join }, wake);
        false
    }
}

fn lay_down(member: &Member, feed: Feed, wake: WakeMailbox<'_>) {
    drop(member.mailbox.lane().replace(Box::new(feed)));
    wake(&member.mailbox);
}
