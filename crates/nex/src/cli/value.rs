//! Values of flags that have a form of their own.

use std::str::FromStr;

use nex_protocol::Tags;

use super::typography;

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
    if let Some(what) = typography::in_variable(&pair.key) {
        return Err(format!(
            "the name `{}` has {what}, as copied text has; type it anew with the characters of a keyboard",
            pair.key.escape_debug()
        ));
    }
    Ok(pair)
}

/// Tags as they are typed for one flag: pairs joined by `;`, with blanks and separators to spare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagList(Vec<Pair>);

impl FromStr for TagList {
    type Err = InvalidPair;

    fn from_str(text: &str) -> Result<Self, InvalidPair> {
        let pairs = text.split(';').map(str::trim).filter(|it| !it.is_empty());
        let pairs = pairs.map(str::parse).collect::<Result<Vec<_>, _>>()?;
        // An empty variable of a shell is no list.
        match pairs.is_empty() {
            true => Err(InvalidPair),
            false => Ok(Self(pairs)),
        }
    }
}

/// Makes tags of all lists; of one key the last value stays.
pub(crate) fn tags(lists: &[TagList]) -> Tags {
    pairs(lists.iter().flat_map(|list| &list.0))
}

/// Makes a map of pairs; of one key the last value stays.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Tags {
    pairs
        .into_iter()
        .map(|pair| (pair.key.clone(), pair.value.clone()))
        .collect()
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
        for bad in [
            "A",
            "=",
            "=1",
            "A=\0",
            "“A=x”",
            "«A=x»",
            "A\u{a0}=1",
            "–a=1",
        ] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_of_two_tags_stays() {
        let lists: Vec<TagList> = ["a=1", "a=2"].iter().map(|t| t.parse().unwrap()).collect();
        assert_eq!(tags(&lists), Tags::from([("a".into(), "2".into())]));
    }

    #[test]
    fn a_list_of_tags_may_have_blanks_and_separators_to_spare() {
        let wanted = Tags::from([("a".into(), "b".into()), ("c".into(), "d e".into())]);
        for text in [
            "a=b;c=d e",
            "a=b; c=d e",
            " a=b ;c=d e;",
            ";;a=b;\n c=d e ; ",
        ] {
            assert_eq!(tags(&[text.parse().unwrap()]), wanted, "{text}");
        }
        for text in ["", ";", " ; ", "a;b=c", "=b;"] {
            assert!(text.parse::<TagList>().is_err(), "{text}");
        }
    }
}
