//! `Metrics`: counts and times in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::kept::Occupancy;

/// Upper bounds of the histogram's buckets, in seconds.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Counts and times since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Requests that wait for the model now.
    pub waiting: AtomicUsize,
    /// Requests whose client left before the model came to them, or between two of its stages.
    pub cancelled: AtomicU64,
    /// Requests that were answered too late or not at all for it.
    pub late: AtomicU64,
    /// Requests that were refused because the queue was full.
    pub refused: AtomicU64,
    /// Questions about an image that was kept.
    pub hits: AtomicU64,
    /// Images that were encoded.
    pub encoded: AtomicU64,
    /// Panics that were caught on the model thread.
    pub panics: AtomicU64,
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    seconds: Mutex<BTreeMap<&'static str, Histogram>>,
}

#[derive(Debug, Default, Clone)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    /// Counts an answer. `route` is a route's pattern, never a path as a client wrote it: its values are few.
    pub fn request(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status)).or_default() += 1;
    }

    /// Counts the time of a stage.
    pub fn time(&self, stage: &'static str, took: Duration) {
        let mut all = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = all.entry(stage).or_default();
        let seconds = took.as_secs_f64();
        for (count, bound) in histogram.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
        histogram.count += 1;
        histogram.sum += seconds;
    }

    /// Mean seconds of a request on the model thread so far; one second before the first.
    pub fn mean_seconds(&self) -> f64 {
        let all = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        all.get("model").filter(|h| h.count > 0).map_or(1.0, |h| h.sum / h.count as f64)
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn text(&self, kept: Occupancy, queue: usize) -> String {
        let mut out = String::new();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let waiting = self.waiting.load(Ordering::Relaxed) as f64;
        for (name, kind, help, value) in [
            ("saymask_queue_waiting", "gauge", "Requests that wait for the model", waiting),
            ("saymask_queue_limit", "gauge", "Requests that may wait", queue as f64),
            ("saymask_kept_images", "gauge", "Encoded images that are kept", kept.images as f64),
            ("saymask_kept_bytes", "gauge", "Their bytes", kept.bytes as f64),
            ("saymask_kept_evicted_total", "counter", "Encoded images dropped for others", kept.evicted as f64),
            ("saymask_kept_hits_total", "counter", "Requests about an image that was kept", load(&self.hits)),
            ("saymask_encoded_total", "counter", "Images encoded", load(&self.encoded)),
            ("saymask_cancelled_total", "counter", "Requests whose client left", load(&self.cancelled)),
            ("saymask_late_total", "counter", "Requests beyond their deadline", load(&self.late)),
            ("saymask_refused_total", "counter", "Requests refused by a full queue", load(&self.refused)),
            ("saymask_panics_total", "counter", "Panics caught on the model thread", load(&self.panics)),
        ] {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
        self.write_requests(&mut out);
        self.write_seconds(&mut out);
        if let Some(bytes) = resident_bytes() {
            let name = "process_resident_memory_bytes";
            let _ = writeln!(out, "# HELP {name} Resident memory\n# TYPE {name} gauge\n{name} {bytes}");
        }
        out
    }

    fn write_requests(&self, out: &mut String) {
        let name = "saymask_requests_total";
        let _ = writeln!(out, "# HELP {name} Answers by route and status\n# TYPE {name} counter");
        for ((route, status), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(out, "{name}{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
    }

    fn write_seconds(&self, out: &mut String) {
        let name = "saymask_seconds";
        let _ = writeln!(out, "# HELP {name} Time by stage\n# TYPE {name} histogram");
        for (stage, histogram) in self.seconds.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
                let _ = writeln!(out, "{name}_bucket{{stage=\"{stage}\",le=\"{bound}\"}} {count}");
            }
            let Histogram { count, sum, .. } = histogram;
            let _ = writeln!(out, "{name}_bucket{{stage=\"{stage}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{{stage=\"{stage}\"}} {sum}\n{name}_count{{stage=\"{stage}\"}} {count}");
        }
    }
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulative_and_every_line_is_a_sample() {
        let metrics = Metrics::default();
        assert_eq!(metrics.mean_seconds(), 1.0);
        metrics.time("model", Duration::from_millis(30));
        metrics.time("model", Duration::from_millis(300));
        metrics.request("/v1/segment", 200);
        metrics.request("/v1/segment", 200);
        metrics.request("/v1/segment", 429);
        let text = metrics.text(Occupancy { images: 2, bytes: 7, evicted: 1 }, 16);
        for line in [
            "saymask_seconds_bucket{stage=\"model\",le=\"0.025\"} 0",
            "saymask_seconds_bucket{stage=\"model\",le=\"0.05\"} 1",
            "saymask_seconds_bucket{stage=\"model\",le=\"+Inf\"} 2",
            "saymask_requests_total{route=\"/v1/segment\",status=\"200\"} 2",
            "saymask_kept_bytes 7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!((metrics.mean_seconds() - 0.165).abs() < 1e-9);
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
        }
    }
}
