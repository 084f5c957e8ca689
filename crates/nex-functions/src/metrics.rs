//! What the invocations of one function came to: how they ended, how long they took, how much went
//! in and out.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;
use nex_protocol::ErrorCode;
use serde::Serialize;

/// Times are told to within a tenth: ten thousand functions have a histogram each.
const SIGNIFICANT_DIGITS: u8 = 1;

/// How an invocation ended, in words that a chart can have as labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With a result.
    Ok,
    /// There was no room for it.
    Busy,
    /// At its deadline.
    TimedOut,
    /// With a result that cannot be sent.
    TooLarge,
    /// Its code failed, or used more than it may.
    Failed,
}

impl Outcome {
    /// All, with their words.
    const ALL: [(Self, &'static str); 5] = [
        (Self::Ok, "ok"),
        (Self::Busy, "busy"),
        (Self::TimedOut, "timed_out"),
        (Self::TooLarge, "too_large"),
        (Self::Failed, "failed"),
    ];

    /// That of an error with this code.
    pub(crate) fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Busy => Self::Busy,
            ErrorCode::Timeout => Self::TimedOut,
            ErrorCode::TooLarge => Self::TooLarge,
            _ => Self::Failed,
        }
    }
}

/// One invocation that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over {
    pub(crate) outcome: Outcome,
    /// From its arrival to its answer.
    pub(crate) latency: Duration,
    /// For how long its code ran.
    pub(crate) ran: Duration,
    /// The sizes of message and result.
    pub(crate) bytes_in: usize,
    pub(crate) bytes_out: usize,
}

/// All invocations of one function. Its task writes, others read.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Mutex<Tally>);

#[derive(Debug, Default)]
struct Tally {
    outcomes: [u64; Outcome::ALL.len()],
    ran: Duration,
    bytes_in: u64,
    bytes_out: u64,
    /// Whether anything was counted since the last report.
    changed: bool,
    /// Since the start, and since the last report. Made with the first invocation; those that were
    /// refused took no time.
    all: Option<Box<Histogram<u32>>>,
    recent: Option<Box<Histogram<u32>>>,
}

/// What is said of a function on its metrics subject: counts since its start, times since the last
/// report.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Invocations that are over.
    calls: u64,
    /// The same by how they ended: `ok`, `busy`, `timed_out`, `too_large`, `failed`.
    outcomes: serde_json::Map<String, serde_json::Value>,
    bytes_in: u64,
    bytes_out: u64,
    /// From arrival to answer, in milliseconds, of the invocations since the last report, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
}

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u32>) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: ms(histogram.max()),
        }
    }
}

impl Metrics {
    /// Counts an invocation that is over.
    pub(crate) fn count(&self, over: &Over) {
        let mut tally = self.tally();
        let place = Outcome::ALL
            .iter()
            .position(|(each, _)| *each == over.outcome);
        if let Some(place) = place {
            tally.outcomes[place] += 1;
        }
        tally.ran = tally.ran.saturating_add(over.ran);
        tally.bytes_in += over.bytes_in as u64;
        tally.bytes_out += over.bytes_out as u64;
        tally.changed = true;
        if over.outcome == Outcome::Busy {
            return;
        }
        let tally = &mut *tally;
        for histogram in [&mut tally.all, &mut tally.recent] {
            let histogram = histogram.get_or_insert_with(empty);
            let micros = u64::try_from(over.latency.as_micros()).unwrap_or(u64::MAX);
            // It grows as needed, and nothing that anybody waits for is too long for it.
            histogram.record(micros.max(1)).ok();
        }
    }

    /// How many invocations are over, and how many of them were not ok.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let tally = self.tally();
        let calls = tally.outcomes.iter().sum();
        (calls, calls - tally.outcomes[0])
    }

    /// For how long its code ran, all together.
    pub(crate) fn ran(&self) -> Duration {
        self.tally().ran
    }

    /// What a person is shown: how many ended in which way, how long they took, how much went in and
    /// out, all since the start. Nothing before the first invocation.
    pub(crate) fn tags(&self) -> Vec<(String, String)> {
        let tally = self.tally();
        let counted = Outcome::ALL.iter().zip(tally.outcomes);
        let counted = counted.filter(|((_, word), count)| *count > 0 && *word != "ok");
        let mut tags: Vec<(String, String)> = counted
            .map(|((_, word), count)| (format!("errors.{word}"), count.to_string()))
            .collect();
        let Some(all) = &tally.all else {
            return tags;
        };
        let Latency { p50, p90, p99, max } = Latency::of(all);
        for (name, ms) in [("p50", p50), ("p90", p90), ("p99", p99), ("max", max)] {
            tags.push((format!("latency.{name}"), format!("{ms}ms")));
        }
        tags.push(("bytes.in".to_owned(), tally.bytes_in.to_string()));
        tags.push(("bytes.out".to_owned(), tally.bytes_out.to_string()));
        tags
    }

    /// What is new since the last time; `None` where nothing is, unless it is wanted `anyway`.
    pub(crate) fn report(&self, anyway: bool) -> Option<Report> {
        let mut tally = self.tally();
        if !std::mem::take(&mut tally.changed) && !anyway {
            return None;
        }
        // Given back: a function that is called once is called once.
        let recent = tally.recent.take();
        let mut outcomes = serde_json::Map::new();
        for ((_, word), count) in Outcome::ALL.iter().zip(tally.outcomes) {
            outcomes.insert((*word).to_owned(), count.into());
        }
        Some(Report {
            calls: tally.outcomes.iter().sum(),
            outcomes,
            bytes_in: tally.bytes_in,
            bytes_out: tally.bytes_out,
            latency_ms: recent.map(|recent| Latency::of(&recent)),
        })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // Counts are right each for itself, also where something panicked between two.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that grows with what is recorded in it.
fn empty() -> Box<Histogram<u32>> {
    let histogram = Histogram::new(SIGNIFICANT_DIGITS);
    Box::new(histogram.expect("one digit is a precision that histograms have"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn over(outcome: Outcome, millis: u64) -> Over {
        Over {
            outcome,
            latency: Duration::from_millis(millis),
            ran: Duration::from_millis(1),
            bytes_in: 10,
            bytes_out: 3,
        }
    }

    #[test]
    fn times_and_sizes_and_outcomes_add_up() {
        let metrics = Metrics::default();
        assert_eq!((metrics.counts(), metrics.tags()), ((0, 0), Vec::new()));
        for millis in 1..=98 {
            metrics.count(&over(Outcome::Ok, millis));
        }
        // They take no part in the times.
        for _ in 0..1000 {
            metrics.count(&over(Outcome::Busy, 0));
        }
        metrics.count(&over(Outcome::Failed, 1000));

        assert_eq!(metrics.counts(), (1099, 1001));
        assert_eq!(metrics.ran(), Duration::from_millis(1099));
        let tags: BTreeMap<String, String> = metrics.tags().into_iter().collect();
        for (name, value) in [
            ("errors.busy", "1000"),
            ("errors.failed", "1"),
            ("bytes.in", "10990"),
            ("bytes.out", "3297"),
        ] {
            assert_eq!(tags[name], value, "{name}");
        }
        assert_eq!(tags.get("errors.timed_out"), None);
        for (name, truly) in [("p50", 50.0), ("p90", 90.0), ("max", 1000.0)] {
            let told = tags[&format!("latency.{name}")].trim_end_matches("ms");
            let told: f64 = told.parse().unwrap();
            assert!((told - truly).abs() <= truly / 10.0, "{tags:?}");
        }
    }

    #[test]
    fn a_report_tells_the_times_since_the_last_one() {
        let metrics = Metrics::default();
        assert_eq!(metrics.report(false), None);
        metrics.count(&over(Outcome::Ok, 1000));
        let report = metrics.report(false).unwrap();
        assert!(report.latency_ms.unwrap().max > 900.0, "{report:?}");
        assert_eq!(metrics.report(false), None);
        let report = metrics.report(true).unwrap();
        assert_eq!((report.calls, report.latency_ms), (1, None));

        metrics.count(&over(Outcome::TimedOut, 10));
        let report = metrics.report(false).unwrap();

        assert!(report.latency_ms.unwrap().max < 12.0, "{report:?}");
        assert_eq!(report.calls, 2);
        assert_eq!(report.outcomes["ok"], 1);
        assert_eq!(report.outcomes["timed_out"], 1);
    }

    #[test]
    fn a_function_that_was_called_is_small() {
        let metrics = Metrics::default();
        metrics.count(&over(Outcome::Ok, 5000));
        metrics.report(false);
        let tally = metrics.tally();
        let counters = tally.all.as_deref().unwrap().distinct_values();
        assert!(
            tally.recent.is_none() && counters * size_of::<u32>() < 2000,
            "{counters}"
        );
    }
}
