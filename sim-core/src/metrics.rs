//! Latencies for the report: one histogram per link and operation, kept only when somebody asked for them.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// Histograms by name, such as `tcp kv0->kv1` or `fsync kv2`.
#[derive(Default)]
pub struct Metrics {
    on: bool,
    histograms: BTreeMap<String, Histogram<u64>>,
}

/// A histogram in figures, all in nanoseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The link or operation.
    pub name: String,
    /// How many values.
    pub count: u64,
    /// The median.
    pub p50_ns: u64,
    /// The 99th percentile.
    pub p99_ns: u64,
    /// The greatest.
    pub max_ns: u64,
}

impl Metrics {
    /// Keeps histograms from now on.
    pub fn keep(&mut self) {
        self.on = true;
    }

    /// Adds a latency to the histogram of this name. The name is only made when histograms are kept.
    #[inline]
    pub fn latency(&mut self, name: impl FnOnce() -> String, value: Duration) {
        if self.on {
            let fresh = || Histogram::new(2).expect("two significant digits are allowed");
            let histogram = self.histograms.entry(name()).or_insert_with(fresh);
            histogram.record(crate::instant::nanos(value)).expect("a histogram without bounds grows as needed");
        }
    }

    /// The figures, by name.
    pub fn summaries(&self) -> Vec<Summary> {
        let figures = |(name, h): (&String, &Histogram<u64>)| Summary {
            name: name.clone(),
            count: h.len(),
            p50_ns: h.value_at_quantile(0.5),
            p99_ns: h.value_at_quantile(0.99),
            max_ns: h.max(),
        };
        self.histograms.iter().map(figures).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_values_to_two_digits() {
        let mut metrics = Metrics::default();
        metrics.latency(|| unreachable!("nobody asked for names yet"), Duration::from_secs(1));
        metrics.keep();
        for ms in 1..=100 {
            metrics.latency(|| "fsync a".into(), Duration::from_millis(ms));
        }
        let [figures] = &metrics.summaries()[..] else { panic!("one name, one histogram") };
        assert_eq!((figures.name.as_str(), figures.count), ("fsync a", 100));
        for (found, expected_ms) in [(figures.p50_ns, 50), (figures.p99_ns, 99), (figures.max_ns, 100)] {
            let expected = expected_ms * 1_000_000;
            assert!(found.abs_diff(expected) <= expected / 100, "{found} for {expected}");
        }
    }
}
