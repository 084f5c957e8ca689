//! Values of flags that have a form of their own.

use std::str::FromStr;

use nex_protocol::Tags;

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

/// A variable for a workload's environment: a [`Pair`] whose key is a name that shells take.
///
/// # Errors
/// Says what a name looks like.
pub(crate) fn variable(text: &str) -> Result<Pair, String> {
    let pair: Pair = text
        .parse()
        .map_err(|error: InvalidPair| error.to_string())?;
    let valid = pair
        .key
        .starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        && pair
            .key
            .chars()
            .all(|c| c == '_' || c.is_ascii_alphanumeric());
    if !valid {
        return Err(format!(
            "`{}` is no name of a variable: want letters, digits and `_`, no digit first",
            pair.key
        ));
    }
    if pair.value.contains('\0') {
        return Err(format!("the value of `{}` contains a NUL", pair.key));
    }
    Ok(pair)
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
    fn a_variable_has_a_name_that_shells_take() {
        for good in ["A=1", "_x=", "PATH_2=/bin"] {
            assert!(variable(good).is_ok(), "{good}");
        }
        for bad in ["2A=1", "a-b=1", "ä=1", "A", "=", "A=\0"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_of_two_tags_stays() {
        let pairs: Vec<Pair> = ["a=1", "a=2"].iter().map(|t| t.parse().unwrap()).collect();
        assert_eq!(tags(&pairs), Tags::from([("a".into(), "2".into())]));
    }
}
