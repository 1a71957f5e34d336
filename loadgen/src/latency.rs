//! Latency: a histogram of microseconds, and its summary for the report.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Up to an hour, with three digits.
const MAX_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Microseconds. Nothing is allocated before the first record.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    histogram: Option<Histogram<u64>>,
}

/// What the report says of a latency, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    pub(crate) count: u64,
}

impl Latency {
    /// Records `us`; more than an hour counts as an hour.
    pub(crate) fn record(&mut self, us: u64) {
        if self.histogram.is_none() {
            // The bounds are constants that the crate takes; the tests go through here.
            self.histogram = Histogram::new_with_bounds(1, MAX_US, DIGITS).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(us.max(1));
        }
    }

    /// Adds what `other` has recorded.
    pub(crate) fn add(&mut self, other: &Latency) {
        let Some(other) = &other.histogram else { return };
        match &mut self.histogram {
            // Same bounds, so that everything fits.
            Some(histogram) => {
                let added = histogram.add(other);
                debug_assert!(added.is_ok());
            }
            None => self.histogram = Some(other.clone()),
        }
    }

    /// `None` if nothing was recorded.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let histogram = self.histogram.as_ref()?;
        Some(Summary {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            count: histogram.len(),
        })
    }

    /// The value at each of `quantiles`, for the chart.
    pub(crate) fn at(&self, quantiles: &[f64]) -> Vec<(f64, u64)> {
        let Some(histogram) = &self.histogram else { return Vec::new() };
        quantiles.iter().map(|q| (*q, histogram.value_at_quantile(*q))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_of_everything_that_was_recorded() {
        let (mut one, mut other) = (Latency::default(), Latency::default());
        assert_eq!(one.summary(), None);
        (1..=90).for_each(|us| one.record(us));
        (91..=100).for_each(|us| other.record(us));
        let mut both = Latency::default();
        both.add(&one);
        both.add(&other);
        let summary = both.summary().unwrap();
        assert_eq!((summary.p50, summary.p90, summary.p99, summary.max), (50, 90, 99, 100));
        assert_eq!(summary.count, 100);
        both.record(u64::MAX);
        assert!(both.summary().unwrap().max >= MAX_US);
    }
}
