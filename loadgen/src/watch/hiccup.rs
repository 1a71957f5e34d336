//! Hiccup watch: an idle thread that sleeps a millisecond at a time. How late it wakes is what the
//! machine itself adds to every figure of time.

use super::published::Published;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAP: Duration = Duration::from_millis(1);

/// See the file's head.
#[derive(Debug)]
pub(crate) struct HiccupWatch {
    pub(crate) published: Arc<Published>,
    pub(crate) measure_us: u64,
}

impl HiccupWatch {
    /// Naps until the run has drained; the latest wake, in microseconds.
    pub(crate) fn run(self) -> u64 {
        let mut hiccup_us_max = 0;
        while !self.published.has_ended() {
            let before = Instant::now();
            std::thread::sleep(NAP);
            let late = before.elapsed().saturating_sub(NAP);
            if self.published.clock().now_us() >= self.measure_us {
                hiccup_us_max = hiccup_us_max.max(late.as_micros() as u64);
            }
        }
        hiccup_us_max
    }
}
