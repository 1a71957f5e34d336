//! The bitmap's loom models: no mark is lost, with and without sleep.

use super::super::wake::Wake;
use super::*;
use crate::sync::model;

/// A shape's mailbox, as far as it matters: what it reports, and where it marks.
#[derive(Clone)]
struct Mailbox {
    slot: Slot,
    value: Arc<AtomicU64>,
    page: Arc<DirtyPage>,
}

impl Mailbox {
    fn new(dirty: &mut Dirty, slot: u32) -> Mailbox {
        let slot = Slot::new(slot);
        Mailbox { slot, value: Arc::new(AtomicU64::new(0)), page: dirty.page_for(slot) }
    }

    fn report(&self, value: u64) -> bool {
        // Relaxed: the mark must carry it.
        self.value.store(value, Ordering::Relaxed);
        self.page.mark(self.slot)
    }
}

/// Drains up to `max` marks, and remembers each mailbox's value as it was read.
fn drain(dirty: &mut Dirty, max: usize, mailboxes: &[Mailbox], seen: &mut [u64]) -> bool {
    dirty.drain(max, |slot| {
        let index = mailboxes.iter().position(|mailbox| mailbox.slot == slot).unwrap();
        seen[index] = mailboxes[index].value.load(Ordering::Relaxed);
        assert_ne!(seen[index], 0, "a mark without its report");
    })
}

/// Every slot in `slots` is reported `reports` times by a thread of its own, while the shard
/// drains.
fn no_report_is_lost(slots: &'static [u32], reports: u64) {
    model::check(move || {
        let mut dirty = Dirty::new();
        let mailboxes: Vec<_> = slots.iter().map(|&slot| Mailbox::new(&mut dirty, slot)).collect();
        let threads: Vec<_> = mailboxes
            .iter()
            .map(|mailbox| {
                let mailbox = mailbox.clone();
                model::spawn(move || {
                    for value in 1..=reports {
                        let _ = mailbox.report(value);
                    }
                })
            })
            .collect();
        let mut seen = vec![0; slots.len()];
        drain(&mut dirty, 1, &mailboxes, &mut seen);
        drain(&mut dirty, 9, &mailboxes, &mut seen);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drain(&mut dirty, 9, &mailboxes, &mut seen);
        assert_eq!(seen, vec![reports; slots.len()], "a report is lost");
        assert!(dirty.is_empty());
    });
}

#[test]
fn loom_no_report_is_lost_when_one_shape_reports_again_and_again() {
    no_report_is_lost(&[0], 3);
}

#[test]
fn loom_no_report_is_lost_in_one_word() {
    no_report_is_lost(&[0, 1], 2);
}

#[test]
fn loom_no_report_is_lost_in_two_words_of_a_page() {
    no_report_is_lost(&[0, 2], 2);
}

#[test]
fn loom_no_report_is_lost_in_two_pages() {
    no_report_is_lost(&[0, 4], 2);
}

#[test]
fn loom_only_who_queues_a_page_needs_to_wake() {
    model::check(|| {
        let mut dirty = Dirty::new();
        let wake = Wake::model();
        let mailboxes = [0, 1].map(|slot| Mailbox::new(&mut dirty, slot));
        let threads = mailboxes.clone().map(|mailbox| {
            let wake = wake.clone();
            model::spawn(move || {
                if mailbox.report(1) {
                    wake.notify();
                }
            })
        });
        let mut seen = [0; 2];
        let mut slept = false;
        for _ in 0..2 {
            while !slept && drain(&mut dirty, 9, &mailboxes, &mut seen) {}
            slept = slept || wake.sleeps(|| dirty.is_empty());
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!slept || wake.is_raised() || seen == [1; 2], "asleep on a mark");
        drain(&mut dirty, 9, &mailboxes, &mut seen);
        assert_eq!(seen, [1; 2]);
    });
}
