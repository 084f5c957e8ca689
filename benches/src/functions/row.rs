//! What was measured beside its floor, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// More is better.
    PerSecond,
    /// Less is better, as with all that follow.
    Micros,
    /// Milliseconds.
    Millis,
    /// Seconds.
    Seconds,
    /// Mebibytes.
    Mebibytes,
    /// Things.
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Micros => format!("{value:.1} us"),
            Self::Millis => format!("{value:.2} ms"),
            Self::Seconds => format!("{value:.1} s"),
            Self::Mebibytes => format!("{value:.0} MiB"),
            Self::Count => format!("{value:.0}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "per_second",
            Self::Micros => "microseconds",
            Self::Millis => "milliseconds",
            Self::Seconds => "seconds",
            Self::Mebibytes => "mebibytes",
            Self::Count => "count",
        }
    }
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// At least this share of the floor's.
    ShareOfFloor(f64),
    /// At most so many times the floor's.
    TimesFloor(f64),
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// One measured thing.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) what: String,
    /// What the numbers are of.
    pub(crate) unit: Unit,
    /// One number for each alternation.
    pub(crate) measured: Vec<f64>,
    /// The floor's in the same alternation, where there is one.
    pub(crate) floor: Vec<f64>,
    /// What is promised, if anything.
    pub(crate) target: Option<Target>,
}

impl Row {
    /// A number that was taken once.
    pub(crate) fn single(what: &str, unit: Unit, value: f64, target: Option<Target>) -> Self {
        Self {
            what: what.to_owned(),
            unit,
            measured: vec![value],
            floor: Vec::new(),
            target,
        }
    }

    /// The middle of the ratios of the alternations: a machine that is busy for a while is so for both
    /// sides of one.
    fn ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self
            .measured
            .iter()
            .zip(&self.floor)
            .map(|(measured, floor)| measured / floor)
            .collect();
        (!ratios.is_empty()).then(|| middle(&ratios))
    }

    /// Whether the promise is kept.
    pub(crate) fn is_kept(&self) -> bool {
        let measured = middle(&self.measured);
        match (self.target, self.ratio()) {
            (Some(Target::AtMost(limit)), _) => measured <= limit,
            (Some(Target::AtLeast(limit)), _) => measured >= limit,
            (Some(Target::ShareOfFloor(least)), Some(ratio)) => ratio >= least,
            (Some(Target::TimesFloor(most)), Some(ratio)) => ratio <= most,
            (Some(Target::ShareOfFloor(_) | Target::TimesFloor(_)), None) => false,
            (None, _) => true,
        }
    }

    fn promise(&self) -> String {
        match self.target {
            Some(Target::ShareOfFloor(least)) => format!(">= {least}x"),
            Some(Target::TimesFloor(most)) => format!("<= {most}x"),
            Some(Target::AtMost(limit)) => format!("<= {}", self.unit.show(limit)),
            Some(Target::AtLeast(limit)) => format!(">= {}", self.unit.show(limit)),
            None => String::new(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "unit": self.unit.name(),
            "measured": middle(&self.measured),
            "floor": (!self.floor.is_empty()).then(|| middle(&self.floor)),
            "ratio": self.ratio(),
            "target": self.target.map(|_| self.promise()),
            "kept": self.is_kept(),
            "runs": self.measured,
            "floor_runs": self.floor,
        })
    }
}

/// The middle one; of an even number the larger of the two.
pub(crate) fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The rows as text.
pub(crate) fn render(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.what.len()).max();
    let width = width.unwrap_or_default();
    let mut text = format!(
        "{:width$}  {:>12}  {:>12}  {:>6}  {:>12}\n",
        "", "measured", "floor", "ratio", "target"
    );
    for row in rows {
        let floor = match row.floor.as_slice() {
            [] => String::new(),
            floor => row.unit.show(middle(floor)),
        };
        let ratio = row.ratio().map_or(String::new(), |it| format!("{it:.2}x"));
        let verdict = if row.is_kept() { "" } else { "  not kept" };
        writeln!(
            text,
            "{:width$}  {:>12}  {floor:>12}  {ratio:>6}  {:>12}{verdict}",
            row.what,
            row.unit.show(middle(&row.measured)),
            row.promise(),
        )
        .expect("a String takes any text");
    }
    text
}

/// The rows as JSON.
pub(crate) fn to_json(rows: &[Row], machine: &str) -> Value {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    json!({ "machine": machine, "rows": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(measured: &[f64], floor: &[f64], target: Target) -> Row {
        Row {
            what: "it".to_owned(),
            unit: Unit::PerSecond,
            measured: measured.to_vec(),
            floor: floor.to_vec(),
            target: Some(target),
        }
    }

    #[test]
    fn ratios_are_taken_within_an_alternation() {
        let row = row(
            &[50.0, 8.0, 80.0],
            &[100.0, 10.0, 100.0],
            Target::ShareOfFloor(0.75),
        );

        assert_eq!(row.ratio(), Some(0.8));
        assert!(row.is_kept());
    }

    #[test]
    fn a_promise_is_held_against_ratio_or_value() {
        assert!(!row(&[7.0], &[10.0], Target::ShareOfFloor(0.75)).is_kept());
        assert!(row(&[14.0], &[10.0], Target::TimesFloor(1.5)).is_kept());
        assert!(!row(&[16.0], &[10.0], Target::TimesFloor(1.5)).is_kept());
        assert!(!row(&[16.0], &[], Target::TimesFloor(1.5)).is_kept());
        assert!(row(&[5.0], &[], Target::AtMost(5.0)).is_kept());
        assert!(!row(&[5.0], &[], Target::AtLeast(5.1)).is_kept());
    }

    #[test]
    fn the_table_says_what_is_not_kept() {
        let text = render(&[row(&[7.0], &[10.0], Target::ShareOfFloor(0.75))]);

        let line = text.lines().nth(1).unwrap();
        assert!(
            line.contains("0.70x") && line.ends_with("not kept"),
            "{text}"
        );
    }
}
