//! Retention, whose failures cost nothing but another try (R15).

use super::*;
use std::fs;

/// R15: a failure is told once and leaves the log as it is; when its pause is over it is tried
/// again.
#[test]
fn r15_a_failure_to_thin_is_told_and_tried_again_after_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let builder = Engine::builder().directory(dir.path());
    let mut builder = builder.log_bytes_max(1).shape_quota_bytes(0);
    builder.segment_bytes_max = Some(1_000);
    let mut hand = ByHand::with(builder);
    let (handle, _) = hand.add();
    hand.run();
    let slot = hand.inner.control.registry.place(handle).unwrap().slot;
    for commit in 1..=100 {
        hand.publish(commit..=commit);
        hand.run();
    }
    while hand.inner.shards[0].log.seal().unwrap() {}
    let start = |hand: &ByHand| hand.inner.shards[0].log.start_of(slot);
    let thin = |hand: &mut ByHand| {
        let retainer = hand.retainer.as_mut().unwrap();
        while retainer.step(hand.now, Duration::ZERO) {}
        let events = hand.events();
        events.into_iter().filter(|event| matches!(event, Event::NotThinned { .. })).count()
    };
    let obstacle = dir.path().join("shard-000.log.new");
    fs::create_dir(&obstacle).unwrap();
    assert_eq!(thin(&mut hand), 1);
    assert_eq!(thin(&mut hand), 0, "it rests");
    fs::remove_dir(&obstacle).unwrap();
    hand.now += Duration::from_secs(9);
    assert_eq!((thin(&mut hand), start(&hand)), (0, Offset::ZERO), "it still rests");
    hand.now += Duration::from_secs(1);
    assert_eq!(thin(&mut hand), 0);
    assert!(start(&hand) > Offset::ZERO);
    hand.publish(101..=101);
    hand.run();
    assert_eq!((hand.flushed(), hand.inner.control.state.poisoned()), (101, None));
}
