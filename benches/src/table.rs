//! Medians, and the table in which they are shown.

use std::{fmt::Write as _, time::Duration};

/// One measured thing.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) what: &'static str,
    /// Wall times of single runs.
    pub(crate) runs: Vec<Duration>,
    /// What the project promises for the median, if it does.
    pub(crate) limit: Option<Duration>,
}

impl Row {
    /// The middle run; of an even number the slower of the two.
    pub(crate) fn median(&self) -> Duration {
        let mut sorted = self.runs.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// Whether the median keeps the promise.
    pub(crate) fn is_kept(&self) -> bool {
        self.limit.is_none_or(|limit| self.median() < limit)
    }
}

/// The rows as text, with the ratio of each median to that of the row `floor`.
pub(crate) fn render(rows: &[Row], floor: usize) -> String {
    let floor_time = rows.get(floor).map(Row::median).unwrap_or_default();
    let width = rows
        .iter()
        .map(|row| row.what.len())
        .max()
        .unwrap_or_default();
    let mut text = format!(
        "{:width$}  {:>10}  {:>10}  {:>10}  {:>7}  {:>8}\n",
        "", "median", "fastest", "slowest", "ratio", "promised"
    );
    for row in rows {
        let ratio = row.median().as_secs_f64() / floor_time.as_secs_f64();
        let fastest = row.runs.iter().min().copied().unwrap_or_default();
        let slowest = row.runs.iter().max().copied().unwrap_or_default();
        let promise = row
            .limit
            .map_or(String::new(), |limit| format!("{} ms", limit.as_millis()));
        let verdict = if row.is_kept() { "" } else { "  not kept" };
        writeln!(
            text,
            "{:width$}  {:>10}  {:>10}  {:>10}  {ratio:>6.1}x  {promise:>8}{verdict}",
            row.what,
            milliseconds(row.median()),
            milliseconds(fastest),
            milliseconds(slowest),
        )
        .expect("a String takes any text");
    }
    text
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// Prints results.
#[expect(
    clippy::print_stdout,
    reason = "the results are for the person who asked for them"
)]
pub(crate) fn print(text: &str) {
    println!("{text}");
}

/// Prints what went wrong.
#[expect(
    clippy::print_stderr,
    reason = "a failure is for the person who asked for results"
)]
pub(crate) fn print_error(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(runs_ms: &[u64], limit_ms: Option<u64>) -> Row {
        let runs = runs_ms.iter().copied().map(Duration::from_millis).collect();
        Row {
            what: "it",
            runs,
            limit: limit_ms.map(Duration::from_millis),
        }
    }

    #[test]
    fn the_median_is_the_middle_of_unsorted_runs() {
        assert_eq!(row(&[9, 1, 5], None).median(), Duration::from_millis(5));
    }

    #[test]
    fn a_promise_is_held_against_the_median() {
        assert!(row(&[9, 1, 5], Some(6)).is_kept());
        assert!(!row(&[9, 1, 5], Some(5)).is_kept());
        assert!(row(&[9], None).is_kept());
    }

    #[test]
    fn ratios_are_to_the_floor() {
        let text = render(&[row(&[2], None), row(&[5], Some(3))], 0);

        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("1.0x"), "{text}");
        assert!(
            lines[2].contains("2.5x") && lines[2].ends_with("not kept"),
            "{text}"
        );
    }
}
