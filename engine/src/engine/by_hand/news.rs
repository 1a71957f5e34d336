//! Who waits for something new is woken by the sync that made it durable and not before, and nobody
//! else is.

use super::*;
use crate::engine::News;
use crate::engine::error::ReadError;
use crate::sync::{AtomicUsize, Ordering};
use std::future::Future;
use std::pin::Pin;
use std::task::{Poll, Wake, Waker};

#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Waits {
    news: News,
    counted: Arc<Counted>,
}

impl Waits {
    fn new(hand: &ByHand, handle: Handle, after: u64) -> Waits {
        let after = Offset::commit_mark(Lsn::new(after));
        Waits { news: hand.inner.news(handle, after), counted: Arc::default() }
    }

    fn poll(&mut self) -> Poll<Result<(), ReadError>> {
        let waker = Waker::from(Arc::clone(&self.counted));
        Pin::new(&mut self.news).poll(&mut std::task::Context::from_waker(&waker))
    }

    fn woken(&self) -> usize {
        self.counted.0.load(Ordering::Relaxed)
    }
}

/// What the thread that wakes does.
fn wake(hand: &ByHand) -> usize {
    hand.inner.control.waiters.step(hand.inner.control.state.check().is_err())
}

fn add(hand: &mut ByHand, clause: &str) -> Handle {
    let (handle, _) = hand.add_filtered(clause, ConsumerSpec::Log);
    hand.settle();
    handle
}

#[test]
fn waiters_are_woken_by_the_sync_and_only_those_with_something_new() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (busy, quiet) = (add(&mut hand, "id = 1"), add(&mut hand, "id = 2"));
    let mut waits = [busy, quiet].map(|handle| Waits::new(&hand, handle, 0));
    assert!(waits.each_mut().map(Waits::poll).iter().all(Poll::is_pending));
    hand.publish(5..=5);
    hand.pump();
    assert_eq!(wake(&hand), 0, "nothing is durable");
    assert!(waits[0].poll().is_pending());
    hand.settle();
    assert_eq!((wake(&hand), waits[0].woken(), waits[1].woken()), (1, 1, 0));
    let [busy, quiet] = &mut waits;
    assert!(matches!(busy.poll(), Poll::Ready(Ok(()))) && quiet.poll().is_pending());
    // Another one who comes late finds it by looking; and who has it waits for the next.
    assert!(matches!(Waits::new(&hand, busy.news.handle(), 4).poll(), Poll::Ready(Ok(()))));
    let mut next = Waits::new(&hand, busy.news.handle(), 5);
    assert!(next.poll().is_pending());
    hand.publish(6..=6);
    hand.settle();
    assert_eq!((wake(&hand), next.woken(), quiet.woken()), (1, 1, 0));
    // Who goes waits no longer.
    drop(waits);
    assert!(matches!(next.poll(), Poll::Ready(Ok(()))));
    assert_eq!(hand.inner.control.waiters.step(true), 0);
}

#[test]
fn r16_waiters_are_woken_when_their_shape_goes_and_when_the_engine_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let (first, second) = (add(&mut hand, "id = 1"), add(&mut hand, "id = 2"));
    let mut waits = [first, second].map(|handle| Waits::new(&hand, handle, 0));
    assert!(waits.each_mut().map(Waits::poll).iter().all(Poll::is_pending));
    let removed = hand.remove(first);
    hand.pump();
    assert_eq!((wake(&hand), waits[0].woken(), waits[1].woken()), (1, 1, 0));
    let gone = |poll| matches!(poll, Poll::Ready(Err(ReadError::Unknown { .. })));
    assert!(gone(waits[0].poll()) && gone(Waits::new(&hand, first, 0).poll()));
    hand.settle();
    assert_eq!(removed.try_recv(), Ok(Ok(1)));
    hand.inner.control.poison("as the test wants");
    assert_eq!((wake(&hand), waits[1].woken()), (1, 1));
    let failed = |poll| matches!(poll, Poll::Ready(Err(ReadError::Failed(_))));
    assert!(failed(waits[1].poll()) && failed(Waits::new(&hand, second, 0).poll()));
    assert_eq!(hand.inner.control.waiters.step(true), 0, "nobody is left behind");
    let news = hand.inner.news(second, Offset::ZERO);
    drop(hand);
    assert!(failed(Waits { news, counted: Arc::default() }.poll()), "the engine is gone");
}
