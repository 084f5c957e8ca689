//! Words for people: types, and which of several words was meant.

use jsonschema::JsonType;
use serde_json::Value;

/// How many letters may be wrong, missing or exchanged in a word that is taken for another.
const MAX_SLIPS: usize = 2;

/// A type, with its article.
pub(crate) fn type_name(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "a mapping",
        JsonType::String => "a string",
    }
}

/// The type of a value, with its article.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        other => type_name(JsonType::from(other)),
    }
}

/// The word among `known` that was probably meant.
pub(crate) fn nearest(word: &str, known: &[&str]) -> Option<String> {
    let slips =
        |other: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &other.to_lowercase());
    // A short word is near to any other short one.
    let allowed = MAX_SLIPS.min(word.chars().count() / 3);
    let near = known.iter().map(|other| (slips(other), *other));
    let near = near.filter(|(slips, _)| *slips <= allowed).min()?;
    Some(near.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_strange_one_is_not() {
        let known = ["lifecycle", "name", "tags", "start_request"];
        for (word, meant) in [
            ("lifecyle", Some("lifecycle")),
            ("Lifecycle", Some("lifecycle")),
            ("tag", Some("tags")),
            ("startrequest", Some("start_request")),
            ("nmae", Some("name")),
            ("x", None),
            ("environment", None),
        ] {
            assert_eq!(nearest(word, &known).as_deref(), meant, "{word}");
        }
    }
}
