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
            self.histograms.entry(name()).or_insert_with(fresh).saturating_record(crate::instant::nanos(value));
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
