//! Baseline: what bare crossbeam does on this machine in the same run: as many bounded channels
//! with as many places, one thread that sends to each in turn, one that receives.

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The baseline, and the run against it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Baseline {
    pub(crate) crossbeam_deliveries_per_s: f64,
    /// The run's handled deliveries over the baseline's.
    pub(crate) ratio: f64,
}

/// Deliveries per second through `channels` channels of `places` places, over about `duration`.
pub(crate) fn crossbeam_deliveries_per_s(channels: u32, places: usize, duration: Duration) -> f64 {
    let (senders, receivers): (Vec<Sender<u64>>, Vec<Receiver<u64>>) =
        (0..channels).map(|_| bounded(places)).unzip();
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let received = thread::scope(|scope| {
        scope.spawn(|| send(senders, &stop));
        scope.spawn(|| {
            thread::sleep(duration);
            // Relaxed: an order to stop soon.
            stop.store(true, Ordering::Relaxed);
        });
        receive(&receivers)
    });
    received as f64 / start.elapsed().as_secs_f64()
}

/// Sends to each channel in turn, until told to stop; then drops the senders.
fn send(senders: Vec<Sender<u64>>, stop: &AtomicBool) {
    for round in 0u64.. {
        for sender in &senders {
            // The receivers live until the senders are gone.
            let _sent = sender.send(round);
        }
        // Relaxed: see who stores.
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Receives what there is in each channel in turn, until nothing is left and the senders are gone.
/// It never parks: on an empty channel it goes on to the next.
fn receive(receivers: &[Receiver<u64>]) -> u64 {
    let mut received = 0;
    loop {
        let mut gone = true;
        for receiver in receivers {
            loop {
                match receiver.try_recv() {
                    Ok(_) => received += 1,
                    Err(error) => {
                        gone &= error.is_disconnected();
                        break;
                    }
                }
            }
        }
        if gone {
            return received;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_sent_is_received() {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..10).map(|_| bounded(4)).unzip();
        let stop = AtomicBool::new(true);
        let received = thread::scope(|scope| {
            scope.spawn(|| send(senders, &stop));
            receive(&receivers)
        });
        assert_eq!(received, 10);
        assert!(crossbeam_deliveries_per_s(10, 4, Duration::from_millis(5)) > 0.0);
    }
}
