//! What was measured, and the table in which it is shown.

use std::{fmt, fmt::Write as _, time::Duration};

/// A number, and in which direction it is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// Less is better.
    Milliseconds(f64),
    /// More is better.
    PerSecond(f64),
    /// For information.
    Mebibytes(f64),
}

impl Scale {
    pub(super) fn time(time: Duration) -> Self {
        Self::Milliseconds(time.as_secs_f64() * 1000.0)
    }

    pub(super) fn rate(count: usize, time: Duration) -> Self {
        Self::PerSecond(count as f64 / time.as_secs_f64())
    }

    /// How many times worse than the floor.
    fn ratio(self, floor: Self) -> Option<f64> {
        match (self, floor) {
            (Self::Milliseconds(own), Self::Milliseconds(floor)) => Some(own / floor),
            (Self::PerSecond(own), Self::PerSecond(floor)) => Some(floor / own),
            _ => None,
        }
    }

    fn keeps(self, target: Self) -> bool {
        match (self, target) {
            (Self::PerSecond(own), Self::PerSecond(target)) => own >= target,
            (Self::Milliseconds(own), Self::Milliseconds(target)) => own < target,
            _ => true,
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Milliseconds(ms) => write!(f, "{ms:.1} ms"),
            Self::PerSecond(rate) => write!(f, "{rate:.0}/s"),
            Self::Mebibytes(mib) => write!(f, "{mib:.1} MiB"),
        }
    }
}

/// One measured thing.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) measured: Scale,
    pub(super) target: Option<Scale>,
    /// The same of the bare responders, where they can do it.
    pub(super) floor: Option<Scale>,
}

impl Figure {
    pub(super) fn is_kept(&self) -> bool {
        self.target.is_none_or(|target| self.measured.keeps(target))
    }
}

/// The median of some times; of an even number the slower of the two.
pub(crate) fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

/// The time that `percent` of all do not pass.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let last = sorted.len().saturating_sub(1);
    let place = (sorted.len() * percent / 100).min(last);
    sorted.get(place).copied().unwrap_or_default()
}

/// The figures as text; the targets only where they are `promised` for these numbers.
pub(super) fn render(figures: &[Figure], promised: bool) -> String {
    let width = figures.iter().map(|figure| figure.what.len()).max();
    let width = width.unwrap_or_default();
    let mut text = format!(
        "{:width$}  {:>11}  {:>9}  {:>11}  {:>6}\n",
        "", "measured", "target", "floor", "ratio"
    );
    for figure in figures {
        let target = figure.target.filter(|_| promised);
        let shown = |scale: Option<Scale>| scale.map_or(String::new(), |it| it.to_string());
        let ratio = figure.floor.and_then(|it| figure.measured.ratio(it));
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.1}x"));
        let verdict = if promised && !figure.is_kept() {
            "  not kept"
        } else {
            ""
        };
        let target = target.map_or(String::new(), |target| match target {
            Scale::Milliseconds(ms) => format!("{ms:.0} ms"),
            other => other.to_string(),
        });
        writeln!(
            text,
            "{:width$}  {:>11}  {target:>9}  {:>11}  {ratio:>6}{verdict}",
            figure.what,
            figure.measured.to_string(),
            shown(figure.floor),
        )
        .expect("a String takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(measured: Scale, target: Option<Scale>, floor: Option<Scale>) -> Figure {
        Figure {
            what: "it".to_owned(),
            measured,
            target,
            floor,
        }
    }

    #[test]
    fn times_are_to_be_short_and_rates_high() {
        let (time, rate) = (Scale::Milliseconds, Scale::PerSecond);
        assert!(figure(time(5.0), Some(time(6.0)), None).is_kept());
        assert!(!figure(time(6.0), Some(time(6.0)), None).is_kept());
        assert!(figure(rate(6.0), Some(rate(6.0)), None).is_kept());
        assert!(!figure(rate(5.0), Some(rate(6.0)), None).is_kept());
        assert!(figure(rate(5.0), None, None).is_kept());
    }

    #[test]
    fn a_ratio_says_how_much_worse() {
        let slow = figure(
            Scale::Milliseconds(20.0),
            None,
            Some(Scale::Milliseconds(10.0)),
        );
        let few = figure(Scale::PerSecond(10.0), None, Some(Scale::PerSecond(30.0)));

        let text = render(&[slow, few], true);

        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("2.0x"), "{text}");
        assert!(lines[2].ends_with("3.0x"), "{text}");
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times: Vec<Duration> = (0..100).rev().map(Duration::from_millis).collect();

        assert_eq!(percentile(&times, 50), Duration::from_millis(50));
        assert_eq!(percentile(&times, 99), Duration::from_millis(99));
        assert_eq!(median(&times[..1]), Duration::from_millis(99));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
