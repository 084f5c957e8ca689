//! Values of flags that have a form of their own.

use std::{str::FromStr, time::Duration};

use nex_protocol::{GoDuration, Tags};

/// `KEY=VALUE`; the value may be empty and may contain `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// A text that is no pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want `KEY=VALUE`")]
pub(crate) struct InvalidPair;

impl FromStr for Pair {
    type Err = InvalidPair;

    fn from_str(text: &str) -> Result<Self, InvalidPair> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err(InvalidPair),
        }
    }
}

/// Makes tags of pairs; of one key the last value stays.
pub(crate) fn tags(pairs: &[Pair]) -> Tags {
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), pair.value.clone()))
        .collect()
}

/// A variable for a workload's environment: a [`Pair`] of any name that a start request takes too.
///
/// # Errors
/// Says what a variable looks like.
pub(crate) fn variable(text: &str) -> Result<Pair, String> {
    let pair: Pair = text
        .parse()
        .map_err(|error: InvalidPair| error.to_string())?;
    if text.contains('\0') {
        return Err(format!("`{}` contains a NUL", pair.key.escape_debug()));
    }
    Ok(pair)
}

/// A duration as Go writes it, in which days and weeks may be units too: `1d12h`, `2w`.
///
/// # Errors
/// Says what a duration looks like.
pub(crate) fn duration(text: &str) -> Result<GoDuration, String> {
    let invalid = |error: &dyn std::fmt::Display| format!("{error}, or days and weeks: `2d`, `1w`");
    let is_number = |c: char| c == '.' || c.is_ascii_digit();
    let (mut days, mut go) = (Some(Duration::ZERO), String::new());
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c| !is_number(c)).unwrap_or(rest.len());
        let unit = rest[number..]
            .find(is_number)
            .unwrap_or(rest.len() - number);
        let (part, after) = rest.split_at(number + unit);
        let hours = match &part[number..] {
            "d" => 24,
            "w" => 7 * 24,
            _ => {
                go.push_str(part);
                rest = after;
                continue;
            }
        };
        let one: GoDuration = format!("{}h", &part[..number])
            .parse()
            .map_err(|error| invalid(&error))?;
        days = days.and_then(|days| days.checked_add(one.0.checked_mul(hours)?));
        rest = after;
    }
    let go: GoDuration = match (go.is_empty(), text.is_empty()) {
        (true, false) => GoDuration::default(),
        _ => go.parse().map_err(|error| invalid(&error))?,
    };
    let whole = days.and_then(|days| days.checked_add(go.0));
    whole
        .map(GoDuration)
        .ok_or_else(|| format!("`{text}` is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_cut_at_its_first_equals_sign() {
        let pair: Pair = "A=b=c".parse().unwrap();
        assert_eq!((pair.key.as_str(), pair.value.as_str()), ("A", "b=c"));
        assert_eq!("A=".parse::<Pair>().unwrap().value, "");
        assert!("A".parse::<Pair>().is_err());
        assert!("=b".parse::<Pair>().is_err());
    }

    #[test]
    fn a_variable_has_any_name_that_a_start_request_takes() {
        for good in [
            "A=1",
            "_x=",
            "PATH_2=/bin",
            "a.b__X=5",
            "a-b=1",
            "ä=1",
            "2A=1",
        ] {
            assert!(variable(good).is_ok(), "{good}");
        }
        for bad in ["A", "=", "=1", "A=\0"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_and_weeks_are_durations_too() {
        let hours = |text: &str| duration(text).unwrap().0.as_secs_f64() / 3600.0;
        for (text, wanted) in [
            ("1d", 24.0),
            ("1.5d", 36.0),
            ("1w", 168.0),
            ("1w2d3h30m", 219.5),
            ("90m1d", 25.5),
            ("36h", 36.0),
            ("0", 0.0),
        ] {
            assert_eq!(hours(text), wanted, "{text}");
        }
        for bad in [
            "",
            "d",
            "1",
            "1y",
            "1d2",
            "1D",
            "-1d",
            "1 d",
            "1d ",
            "9999999999999w",
        ] {
            let error = duration(bad).unwrap_err();
            assert!(
                error.contains("weeks") || error.contains("too long"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn the_last_of_two_tags_stays() {
        let pairs: Vec<Pair> = ["a=1", "a=2"].iter().map(|t| t.parse().unwrap()).collect();
        assert_eq!(tags(&pairs), Tags::from([("a".into(), "2".into())]));
    }
}
