//! Batches: transactions that a shape is handed together, and what it says to each of them.

use super::*;

type Seen = Arc<Mutex<Vec<(u64, u64)>>>;

/// What is `seen` of an inline consumer that is handed nine commits, the last eight at once, and
/// answers with `handle`, which is told the incarnation and the commit; and through where it is
/// flushed.
fn nine_inline(
    handle: impl Fn(u64, u64, &mut Context<'_>) -> Result<(), ConsumerError>
    + Clone
    + Send
    + Sync
    + 'static,
) -> (Vec<(u64, u64)>, u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let seen = Seen::default();
    let sees = Arc::clone(&seen);
    let factory = move |start: &Start<'_>| {
        let (incarnation, sees, handle) = (start.incarnation(), Arc::clone(&sees), handle.clone());
        let handler = move |delivery: &Delivery<'_>, context: &mut Context<'_>| {
            let commit = delivery.commit_lsn().as_u64();
            sees.lock().push((incarnation, commit));
            handle(incarnation, commit, context)
        };
        Ok(Started::new(Box::new(Handler(handler)), start.resume()))
    };
    hand.add_with(ConsumerSpec::Inline { factory: Arc::new(factory), ack: Ack::Consumer });
    hand.run();
    hand.publish(1..=1);
    hand.run();
    hand.publish(2..=9);
    hand.run();
    let seen = seen.lock().clone();
    (seen, hand.flushed(), hand.counters().deaths.get())
}

fn report(commit: u64, context: &mut Context<'_>) -> Result<(), ConsumerError> {
    Ok(context.flushed(Lsn::new(commit))?)
}

#[test]
fn who_reports_at_once_or_later_gets_each_once_and_owes_what_it_has_not_reported() {
    let all: [&[u64]; 6] =
        [&[1, 2, 3, 4, 5, 6, 7, 8, 9], &[3, 6, 9], &[7], &[], &[1, 2, 3, 4], &[1, 2, 3, 6, 7, 9]];
    for reported in all {
        let got = nine_inline(move |_, commit, context| match reported.contains(&commit) {
            true => report(commit, context),
            false => Ok(()),
        });
        let each_once = (1..=9).map(|commit| (1, commit)).collect();
        let flushed = reported.last().copied().unwrap_or(0);
        assert_eq!(got, (each_once, flushed, 0), "reports {reported:?}");
    }
}

#[test]
fn who_dies_in_the_middle_of_a_batch_is_handed_the_rest_of_it_by_a_replay() {
    #[derive(Clone, Copy, Debug)]
    enum End {
        Error,
        Panic,
        PanicReported,
        Exit,
    }
    for (end, again) in
        [(End::Error, true), (End::Panic, true), (End::PanicReported, false), (End::Exit, false)]
    {
        for at in [2, 5, 9] {
            let (seen, flushed, deaths) = nine_inline(move |incarnation, commit, context| {
                if (incarnation, commit) != (1, at) {
                    return report(commit, context);
                }
                match end {
                    End::Error => return Err("as the test wants".into()),
                    End::Panic => panic!("as the test wants"),
                    End::PanicReported => {
                        report(commit, context)?;
                        panic!("as the test wants");
                    }
                    End::Exit => context.exit(),
                }
                report(commit, context)
            });
            let first = (1..=at).map(|commit| (1, commit));
            let second = (if again { at } else { at + 1 }..=9).map(|commit| (2, commit));
            let all: Vec<_> = first.chain(second).collect();
            assert_eq!((seen, flushed, deaths), (all, 9, 1), "{end:?} at {at}");
        }
    }
}

/// Its consumer had flushed more than the stream had brought when it started.
#[test]
fn who_resumes_in_the_middle_of_a_batch_owes_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut hand = ByHand::open(dir.path());
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let sees = Arc::clone(&seen);
    let factory = move |_: &Start<'_>| {
        let sees = Arc::clone(&sees);
        let handler = move |delivery: &Delivery<'_>, _: &mut Context<'_>| {
            sees.lock().push(delivery.commit_lsn().as_u64());
            Ok(())
        };
        let resume = Offset::commit_mark(Lsn::new(5));
        Ok(Started::new(Box::new(Handler(handler)), resume))
    };
    hand.add_with(ConsumerSpec::Mailbox { factory: Arc::new(factory), ack: Ack::Consumer });
    hand.run();
    hand.publish(2..=9);
    hand.run();
    assert_eq!((&*seen.lock(), hand.flushed()), (&vec![6, 7, 8, 9], 5));
}
