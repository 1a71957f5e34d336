//! Part: the side of an incarnation that runs: the consumer, its end of the channel, and how far
//! it is. A part is fed from the log, or takes its mail; who holds the part runs it.

use super::api::{Consumer, ConsumerError};
use super::contain::{contain, drop_contained};
use super::delivery::{Context, Delivery, Given};
use super::hands::{Hands, Tally};
use super::link::Member;
use super::mail::Mail;
use super::mailbox::{Mailbox, Note};
use super::recent::FragmentCache;
use super::seat::Sitter;
use crate::log::Chunk;
use crate::words::{Form, Fragment, Lsn, Offset};
use crossbeam_channel::{Receiver, TryRecvError};
use std::sync::Arc;

/// How many messages a part takes before its runner looks at others.
pub(crate) const MAIL_BUDGET: usize = 256;

/// What the feeder, or the shard, lays in a part's one-place lane.
#[derive(Debug)]
pub(crate) struct Feed {
    /// A piece of the log to hand over, if there is one.
    pub(crate) chunk: Option<Arc<Chunk>>,
    /// Through where this feed reaches; nothing beyond is handed over.
    pub(crate) through: Offset,
    /// The shard's boundary, to go back with the member.
    pub(crate) boundary: Option<Lsn>,
    /// After this feed the part takes its mail.
    pub(crate) join: bool,
}

/// Where a part's deliveries come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// From the lane. Mail that waits is for later.
    Feed,
    /// From the channel.
    Mail,
    /// From nowhere: mail was found that refers to nothing. All of it goes, the log has it.
    Lost,
}

/// What a part says when it stops.
#[derive(Debug)]
pub(crate) enum Step {
    /// There is nothing more to do.
    Idle,
    /// There is, but others wait.
    More,
    /// The lane is handled, or a gap was met: the member goes back to the feeder.
    Back(Member),
}

/// One delivery to a shape: a change of a fragment and as what, and whether its commit comes with
/// it.
#[derive(Clone, Copy, Debug)]
struct Due {
    what: Option<(u32, Form)>,
    commits: bool,
}

/// See the file's head. Fields drop in order: the consumer goes before its channel disconnects.
///
/// Aligned to two lines, which keeps it out of the size class of most consumers: an allocator then
/// lays consumers side by side in the order in which they were made, which is that of a fan-out,
/// and does not put later ones into the gaps that parts leave when their consumers move to the
/// shard.
#[repr(align(128))]
pub(crate) struct Part {
    consumer: Box<dyn Consumer>,
    receiver: Receiver<Mail>,
    mode: Mode,
    /// Everything through here was handed over or is none of this incarnation's (INV8).
    position: Offset,
    /// Something of the transaction at `position` was handed over, and its commit was not.
    open: bool,
    /// The consumer reported since the last look, or was fed beyond what it was handed.
    reported: bool,
    /// Its place is on the shard's thread: say so when the mailbox is drained.
    inline: bool,
    /// Messages that were announced and not taken. Never fewer than are in the channel and will not
    /// be announced any more; more, where some were taken before that, or let go.
    announced: u32,
}

const _: () = assert!(size_of::<Part>() == 128, "what a delivery touches lies in one place");

impl Sitter for Part {
    fn announce(&mut self, mails: u32) {
        self.announced = self.announced.saturating_add(mails);
    }
}

impl Part {
    pub(crate) fn new(
        consumer: Box<dyn Consumer>,
        receiver: Receiver<Mail>,
        resume: Offset,
        inline: bool,
    ) -> Part {
        Part {
            consumer,
            receiver,
            mode: Mode::Feed,
            position: resume,
            open: !resume.is_commit_mark(),
            reported: false,
            inline,
            announced: 0,
        }
    }

    pub(super) fn consumer_address(&self) -> usize {
        std::ptr::from_ref(&*self.consumer).addr()
    }

    /// Runs the consumer on what is there. An error is a death; the caller retires the part.
    pub(crate) fn run(
        &mut self,
        mailbox: &Arc<Mailbox>,
        hands: &mut Hands,
    ) -> Result<Step, (Offset, ConsumerError)> {
        hands.pulse.enter(mailbox);
        (hands.at, hands.reported) = (self.position, Lsn::ZERO);
        let step = contain(|| match self.mode {
            Mode::Feed => self.feed(mailbox, hands),
            Mode::Mail => self.mail(mailbox, hands),
            Mode::Lost => Ok(self.discard(mailbox, hands)),
        });
        hands.pulse.leave();
        if std::mem::take(&mut self.reported) {
            mailbox.mark_dirty();
        }
        match step {
            Ok(Ok(step)) => Ok(step),
            Ok(Err(cause)) => Err((hands.at, cause)),
            Err(panic) => {
                mailbox.raise_flushed(hands.reported);
                Err((hands.at, panic.into()))
            }
        }
    }

    /// Takes all the mail that is there, on the shard's own thread.
    pub(crate) fn drain(
        &mut self,
        mailbox: &Arc<Mailbox>,
        hands: &mut Hands,
    ) -> Result<(), (Offset, ConsumerError)> {
        // A note that says so would have the shard ask at once again, and again. All is announced:
        // it was sent from here.
        self.inline = false;
        while let Step::More = self.run(mailbox, hands)? {}
        self.inline = true;
        Ok(())
    }

    /// Whether the shard can hand it everything after `processed` itself: it takes mail and has
    /// taken all of it, and stands at a commit that is not ahead of the stream.
    pub(crate) fn is_level(&self, processed: Lsn) -> bool {
        self.mode == Mode::Mail
            && self.position.is_commit_mark()
            && self.position.commit <= processed
            && self.receiver.is_empty()
    }

    /// The consumer, to be handed its deliveries on the shard's thread. Its channel goes.
    pub(crate) fn into_consumer(self) -> Box<dyn Consumer> {
        self.consumer
    }

    /// Drops the consumer, then its channel.
    pub(crate) fn retire(self, tally: &mut Tally) {
        let Part { consumer, receiver, .. } = self;
        drop_contained(consumer);
        tally.mail_taken += receiver.len() as u64;
    }

    /// Goes on with the mail: what the shard says of a part that nobody runs and that has nothing
    /// to catch up with.
    pub(crate) fn join(&mut self) {
        self.mode = Mode::Mail;
    }

    /// Hands the lane's feed over.
    fn feed(&mut self, mailbox: &Arc<Mailbox>, hands: &mut Hands) -> Result<Step, ConsumerError> {
        let Some(feed) = mailbox.lane().take() else { return Ok(Step::Idle) };
        mailbox.set_waits(false);
        if let Some(chunk) = &feed.chunk {
            self.hand_chunk(mailbox, chunk, feed.through, hands)?;
        }
        self.position = self.position.max(feed.through);
        self.show_fed(mailbox);
        if feed.join {
            self.mode = Mode::Mail;
            mailbox.leave(Note::Joined);
            return Ok(Step::More);
        }
        mailbox.set_waits(true);
        Ok(Step::Back(self.member(mailbox, feed.boundary)))
    }

    fn hand_chunk(
        &mut self,
        mailbox: &Arc<Mailbox>,
        chunk: &Chunk,
        through: Offset,
        hands: &mut Hands,
    ) -> Result<(), ConsumerError> {
        let slot = mailbox.name().slot;
        let snapshot = mailbox.snapshot();
        let from = self.position;
        let start = chunk.entries.partition_point(|entry| entry.fragment.last_offset() <= from);
        for entry in &chunk.entries[start..] {
            if entry.fragment.commit_lsn() > through.commit {
                break;
            }
            let (commit, xid) = (entry.fragment.commit_lsn(), entry.fragment.xid());
            if snapshot.is_some_and(|snapshot| snapshot.hides(commit, xid)) {
                continue;
            }
            // One behind, because only the last of them carries the commit.
            let mut last = None;
            for routed in entry.routed.iter() {
                if let Some(form) = routed.form_for(slot) {
                    let before = last.replace((routed.change, form));
                    if before.is_some() {
                        let due = Due { what: before, commits: false };
                        self.offer(mailbox, &entry.fragment, due, hands)?;
                        hands.tally.replayed += 1;
                    }
                }
            }
            hands.tally.replayed += u64::from(last.is_some());
            let due = Due { what: last, commits: entry.fragment.commits() };
            self.offer(mailbox, &entry.fragment, due, hands)?;
        }
        Ok(())
    }

    /// Shows that it was fed beyond what it was handed.
    fn show_fed(&mut self, mailbox: &Mailbox) {
        let through = self.position.complete_through();
        if through > mailbox.handed() {
            mailbox.set_fed(through);
            self.reported = true;
        }
    }

    /// Takes the mail that was announced; all there is, where that matters.
    fn mail(&mut self, mailbox: &Arc<Mailbox>, hands: &mut Hands) -> Result<Step, ConsumerError> {
        mailbox.set_waits(false);
        // Taken out for the time, because the handler is handed what lies in it.
        let shard = mailbox.link().shard;
        let mut cache = std::mem::take(&mut hands.caches[shard]);
        let step = self.take_mail(mailbox, &mut cache, hands);
        hands.caches[shard] = cache;
        step
    }

    fn take_mail(
        &mut self,
        mailbox: &Arc<Mailbox>,
        cache: &mut FragmentCache,
        hands: &mut Hands,
    ) -> Result<Step, ConsumerError> {
        // Before draining: what was sent before the gap is then all drained when it is acted on.
        let gap = mailbox.has_gap();
        let recent = &mailbox.link().recent;
        let to_the_end = gap || self.inline;
        for _ in 0..MAIL_BUDGET {
            if self.announced == 0 && !to_the_end {
                return Ok(Step::Idle);
            }
            let mail = match self.receiver.try_recv() {
                Ok(mail) => mail,
                Err(TryRecvError::Empty) if gap => return Ok(self.back(mailbox)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    self.announced = 0;
                    if self.inline {
                        mailbox.leave(Note::Drained);
                    }
                    return Ok(Step::Idle);
                }
            };
            self.announced = self.announced.saturating_sub(1);
            hands.tally.mail_taken += 1;
            for mail in mail.each() {
                let Some(fragment) = cache.fragment(recent, mail) else {
                    self.mode = Mode::Lost;
                    mailbox.set_waits(true);
                    mailbox.leave(Note::Lost);
                    return Ok(Step::More);
                };
                let due = Due { what: mail.what(), commits: mail.commits() };
                self.offer(mailbox, fragment, due, hands)?;
            }
        }
        Ok(Step::More)
    }

    /// Lets mail go until the shard has stopped sending.
    fn discard(&mut self, mailbox: &Arc<Mailbox>, hands: &mut Hands) -> Step {
        let gap = mailbox.has_gap();
        while self.receiver.try_recv().is_ok() {
            hands.tally.mail_taken += 1;
        }
        if gap { self.back(mailbox) } else { Step::Idle }
    }

    /// Back to the feeder, at the last position.
    fn back(&mut self, mailbox: &Arc<Mailbox>) -> Step {
        self.mode = Mode::Feed;
        // There is none left, and none is sent.
        self.announced = 0;
        mailbox.set_waits(true);
        Step::Back(self.member(mailbox, None))
    }

    fn member(&self, mailbox: &Arc<Mailbox>, boundary: Option<Lsn>) -> Member {
        let Part { position, open, .. } = *self;
        Member { mailbox: Arc::clone(mailbox), position, open, boundary }
    }

    /// Hands over what is new to this incarnation (INV8).
    #[inline]
    fn offer(
        &mut self,
        mailbox: &Mailbox,
        fragment: &Fragment,
        due: Due,
        hands: &mut Hands,
    ) -> Result<(), ConsumerError> {
        let Some(due) = self.due(fragment, due) else { return Ok(()) };
        if mailbox.is_closed() {
            // What is queued goes with it (R12); its runner drops the part next.
            return Ok(());
        }
        if due.commits {
            // Before the handler runs: it may tell another thread, which reports.
            mailbox.set_handed(fragment.commit_lsn());
        }
        let (reported, result) = self.call(mailbox, fragment, due, hands);
        if reported > Lsn::ZERO {
            mailbox.raise_flushed(reported);
            self.reported = true;
        }
        result
    }

    /// What of a delivery is new to this incarnation: the change, and the commit with it or, where
    /// the change is not new or there is none, alone.
    #[inline]
    fn due(&self, fragment: &Fragment, due: Due) -> Option<Due> {
        let change = due.what.and_then(|(index, _)| fragment.get(index as usize));
        if change.is_some_and(|change| change.offset() > self.position) {
            return Some(due);
        }
        let mark = Offset::commit_mark(fragment.commit_lsn());
        (due.commits && self.open && mark > self.position)
            .then_some(Due { what: None, commits: true })
    }

    /// Calls the handler: what it reported, and how it ended.
    #[inline]
    fn call(
        &mut self,
        mailbox: &Mailbox,
        fragment: &Fragment,
        due: Due,
        hands: &mut Hands,
    ) -> (Lsn, Result<(), ConsumerError>) {
        let handed = match due.commits {
            true => fragment.commit_lsn(),
            false => self.position.complete_through(),
        };
        let given = Given::new(fragment, due.what, due.commits);
        let delivery = Delivery { mailbox, given: &given };
        let (reported, result) = call(&mut *self.consumer, &delivery, handed, hands);
        let Given { offset, commits, .. } = given;
        if result.is_ok() {
            self.position = if commits { Offset::commit_mark(handed) } else { offset };
            self.open = !commits;
        }
        (reported, result)
    }
}

/// Calls a handler, after `handed` was handed over: what it reported, and how it ended.
#[inline]
fn call(
    consumer: &mut dyn Consumer,
    delivery: &Delivery<'_>,
    handed: Lsn,
    hands: &mut Hands,
) -> (Lsn, Result<(), ConsumerError>) {
    hands.pulse.beat();
    hands.at = delivery.given.offset;
    hands.reported = Lsn::ZERO;
    let mut context = Context::new(delivery.mailbox, handed, &mut hands.reported);
    let result = consumer.handle(delivery, &mut context);
    let exits = context.exits();
    let reported = hands.reported;
    if let Err(cause) = result {
        return (reported, Err(cause));
    }
    hands.tally.handled += u64::from(delivery.given.change.is_some());
    hands.tally.commits += u64::from(delivery.given.commits);
    let end = if exits { Err("the consumer asked to exit".into()) } else { Ok(()) };
    (reported, end)
}
