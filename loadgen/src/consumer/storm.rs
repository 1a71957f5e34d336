//! Storm: many consumers are killed at once, and the others are watched meanwhile.

use super::kill::{KillKind, Order};
use super::population::Population;
use crate::latency::Latency;
use crate::watch::Published;
use crate::workload::mix;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(1);

/// See the file's head. What is seen of it.
#[derive(Debug)]
pub(crate) struct Storm {
    /// A shape is a victim if its draw lies below this.
    bound: u64,
    seed: u64,
    victims: u64,
    /// When it struck, in microseconds of the run's clock; 0: not yet.
    struck_us: AtomicU64,
    back: AtomicU64,
    back_us: AtomicU64,
    /// When each of the timed consumers that are no victims was handed something last.
    last_us: Box<[AtomicU64]>,
    /// When any of them was, and the longest time in which none was and something was due.
    any_us: AtomicU64,
    still_us: AtomicU64,
    pauses: Mutex<Latency>,
}

/// What the report says of a storm.
#[derive(Debug)]
pub(crate) struct Stormed {
    pub(crate) victims: u64,
    /// Victims whose next incarnation has reported.
    pub(crate) back: u64,
    /// From the blow to the last of these reports.
    pub(crate) all_back_us: u64,
    /// The longest time in which something was due to the others and none was handed anything, from
    /// the blow on.
    pub(crate) others_still_us: u64,
    /// The same of one of them at a time.
    pub(crate) pauses: Latency,
}

// Relaxed throughout: each figure stands alone, and is read after the threads were joined.
impl Storm {
    /// A storm that kills this fraction of `shapes` consumers. `timed`: so many consumers are
    /// timed.
    pub(crate) fn new(fraction: f64, seed: u64, shapes: u32, timed: usize) -> Storm {
        let bound = (fraction * f64::from(u32::MAX)) as u64;
        let mut storm = Storm {
            bound,
            seed: mix(seed ^ 0x5708),
            victims: 0,
            struck_us: AtomicU64::new(0),
            back: AtomicU64::new(0),
            back_us: AtomicU64::new(0),
            last_us: (0..timed).map(|_| AtomicU64::new(0)).collect(),
            any_us: AtomicU64::new(0),
            still_us: AtomicU64::new(0),
            pauses: Mutex::default(),
        };
        storm.victims = (0..shapes).filter(|shape| storm.is_victim(*shape)).count() as u64;
        storm
    }

    fn is_victim(&self, shape: u32) -> bool {
        mix(self.seed ^ u64::from(shape)) >> 32 < self.bound
    }

    /// A consumer that is not the first of its shape has reported.
    pub(super) fn recovered(&self, shape: u32, now_us: u64) {
        if self.struck_us.load(Ordering::Relaxed) > 0 && self.is_victim(shape) {
            self.back.fetch_add(1, Ordering::Relaxed);
            self.back_us.fetch_max(now_us, Ordering::Relaxed);
        }
    }

    /// The timed consumer number `place` was handed a change that was due since `due_us`: where
    /// nothing was due, nobody paused. 0: where no times are set, something always is.
    pub(super) fn delivered(&self, shape: u32, place: usize, due_us: u64, now_us: u64) {
        let Some(last_us) = self.last_us.get(place) else { return };
        if self.is_victim(shape) {
            return;
        }
        let last = last_us.swap(now_us, Ordering::Relaxed);
        let any = self.any_us.fetch_max(now_us, Ordering::Relaxed);
        if self.struck_us.load(Ordering::Relaxed) > 0 && last > 0 {
            self.still_us.fetch_max(now_us.saturating_sub(any.max(due_us)), Ordering::Relaxed);
            self.pauses.lock().record(now_us.saturating_sub(last.max(due_us)));
        }
    }

    /// What was seen.
    pub(crate) fn seen(&self) -> Stormed {
        let mut pauses = Latency::default();
        pauses.add(&self.pauses.lock());
        let struck = self.struck_us.load(Ordering::Relaxed);
        Stormed {
            victims: self.victims,
            back: self.back.load(Ordering::Relaxed),
            all_back_us: self.back_us.load(Ordering::Relaxed).saturating_sub(struck),
            others_still_us: self.still_us.load(Ordering::Relaxed),
            pauses,
        }
    }
}

/// Waits for `at_us`, and strikes: each victim dies in its handler, at its next delivery.
pub(crate) fn strike(population: &Population, published: &Arc<Published>, at_us: u64) {
    let Some(storm) = population.storm() else { return };
    let clock = published.clock();
    while clock.now_us() < at_us {
        if published.has_ended() {
            return;
        }
        thread::sleep(TICK);
    }
    storm.struck_us.store(clock.now_us(), Ordering::Relaxed);
    for shape in (0..population.shapes()).filter(|shape| storm.is_victim(*shape)) {
        // Who is to die already dies now in that way.
        if population.arm(shape, Order::Die(KillKind::Handler)) {
            population.kills.arm(KillKind::Handler);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_strikes_the_fraction_that_was_asked_for_and_watches_the_others() {
        let storm = Storm::new(0.5, 1, 10_000, 10_000);
        assert!((4_800..5_200).contains(&storm.victims), "{}", storm.victims);
        for shape in 0..10_000 {
            storm.delivered(shape, shape as usize, 0, 5);
        }
        assert_eq!(storm.seen().pauses.summary(), None, "it has not struck");
        storm.struck_us.store(10, Ordering::Relaxed);
        for shape in 0..10_000 {
            storm.delivered(shape, shape as usize, 0, 25);
            storm.delivered(shape, shape as usize, 35, 40);
            storm.recovered(shape, 30);
        }
        let seen = storm.seen();
        let watched = seen.pauses.summary().map(|pauses| (pauses.count, pauses.max));
        assert_eq!(watched, Some((2 * (10_000 - storm.victims), 20)));
        assert_eq!((seen.back, seen.all_back_us), (storm.victims, 20));
        assert_eq!(seen.others_still_us, 20);
        assert_eq!(Storm::new(1.0, 1, 1_000, 1).victims, 1_000);
        assert_eq!(Storm::new(0.0, 1, 1_000, 1).victims, 0);
    }
}
