//! Durations as Go writes them on the wire: `1m0s`, `100ms`, `1h2m3.5s`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A regular expression for the texts that [`GoDuration`] reads, for JSON Schemas.
pub const DURATION_PATTERN: &str =
    r"^\+?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w))+)$";

/// A duration in the text form of Go's `time.Duration`.
///
/// Days and weeks are read as well, and never written, since Go peers refuse them. Negative durations are refused:
/// nothing here waits backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("pattern" = DURATION_PATTERN)))]
#[serde(try_from = "String", into = "String")]
pub struct GoDuration(pub Duration);

/// A text that is no duration of Go's grammar, or a negative one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid duration `{0}`: want a Go duration such as `90s`, `1m30s` or `500ms`, or days and weeks: `2d`, `1w`"
)]
pub struct InvalidDuration(String);

const UNITS: [(&str, u64); 10] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
    ("d", 24 * 3600 * 1_000_000_000),
    ("w", 7 * 24 * 3600 * 1_000_000_000),
];

/// Reads one `<number><unit>` and returns its nanoseconds and the rest.
fn part(text: &str) -> Option<(u64, &str)> {
    let number_end = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;

    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut nanos = whole.checked_mul(scale)?;
    let mut digit_scale = scale;
    for digit in fraction.bytes() {
        digit_scale /= 10;
        nanos = nanos.checked_add(u64::from(digit - b'0') * digit_scale)?;
    }
    Some((nanos, rest))
}

impl GoDuration {
    /// Reads a duration in Go's own grammar, without days and weeks: what a Go peer refuses, a node
    /// refuses too.
    ///
    /// # Errors
    /// A text that is none.
    pub fn parse_go(text: &str) -> Result<Self, InvalidDuration> {
        if text.contains(['d', 'w']) {
            return Err(InvalidDuration(text.to_owned()));
        }
        text.parse()
    }
}

impl FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" || rest == "-0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total = 0u64;
        while !rest.is_empty() {
            let (nanos, after) = part(rest).ok_or_else(invalid)?;
            total = total.checked_add(nanos).ok_or_else(invalid)?;
            rest = after;
        }
        Ok(Self(Duration::from_nanos(total)))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        let (unit, scale) = match nanos {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            1_000_000..1_000_000_000 => ("ms", 1_000_000),
            _ => {
                let seconds = self.0.as_secs();
                if seconds >= 3600 {
                    write!(f, "{}h", seconds / 3600)?;
                }
                if seconds >= 60 {
                    write!(f, "{}m", seconds / 60 % 60)?;
                }
                let within = nanos % 60_000_000_000;
                return write!(f, "{}s", decimal(within, 1_000_000_000));
            }
        };
        write!(f, "{}{unit}", decimal(nanos, scale))
    }
}

/// `value / scale` as a decimal without trailing zeros.
fn decimal(value: u128, scale: u128) -> String {
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

impl TryFrom<String> for GoDuration {
    type Error = InvalidDuration;

    fn try_from(text: String) -> Result<Self, InvalidDuration> {
        text.parse()
    }
}

impl From<GoDuration> for String {
    fn from(duration: GoDuration) -> Self {
        duration.to_string()
    }
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_texts_are_read() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("+5s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1µs", 1_000),
            ("100ms", 100_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("1m0s", 60_000_000_000),
            ("1.5d", 36 * 3_600_000_000_000),
            ("1w2d3h", 219 * 3_600_000_000_000),
        ] {
            let read: GoDuration = text.parse().unwrap();
            assert_eq!(read.0, Duration::from_nanos(nanos), "{text}");
            assert_eq!(
                GoDuration::parse_go(text).is_ok(),
                !text.contains('d'),
                "{text}"
            );
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "5",
            "1y",
            "1D",
            "-1s",
            "s",
            ".s",
            "1..2s",
            "1s ",
            "99999999999999h",
            "9999999999999w",
        ] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
            assert!(GoDuration::parse_go(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (144_301_575_422, "2m24.301575422s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(GoDuration(Duration::from_nanos(nanos)).to_string(), text);
        }
    }
}
