//! Keywords for what JSON Schema cannot say. Other validators take no notice of keywords that they do not know.
//!
//! - `"x-nex-duration": {"more_than": "0s", "at_least": "1s", "at_most": "1m"}` bounds a Go duration; each bound may be
//!   left out.
//! - `"x-nex-trigger": true` checks a trigger of a function, or of a list of triggers that no two are on the same.

use std::time::Duration;

use jsonschema::{Keyword, ValidationError, paths::Location};
use nex_protocol::{
    GoDuration,
    function::{Trigger, distinct},
};
use serde_json::{Map, Value};

pub(crate) const DURATION: &str = "x-nex-duration";
pub(crate) const TRIGGER: &str = "x-nex-trigger";

type Made<'a> = Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>>;

/// The bounds of a duration.
struct Bounds {
    more_than: Option<Duration>,
    at_least: Option<Duration>,
    at_most: Option<Duration>,
}

pub(crate) fn duration<'a>(_: &'a Map<String, Value>, value: &'a Value, _: Location) -> Made<'a> {
    let bound = |key: &str| -> Result<Option<Duration>, ValidationError<'a>> {
        let Some(text) = value.get(key) else {
            return Ok(None);
        };
        let parsed = text
            .as_str()
            .and_then(|text| text.parse::<GoDuration>().ok());
        let invalid = || ValidationError::schema(format!("`{DURATION}`: `{key}` is no duration"));
        parsed.map(|it| Some(it.0)).ok_or_else(invalid)
    };
    Ok(Box::new(Bounds {
        more_than: bound("more_than")?,
        at_least: bound("at_least")?,
        at_most: bound("at_most")?,
    }))
}

impl Bounds {
    /// The fault of a text, in words.
    fn fault(&self, value: &Value) -> Option<String> {
        let text = value.as_str()?;
        let found = match text.parse::<GoDuration>() {
            Ok(found) => found,
            Err(error) => return Some(error.to_string()),
        };
        let fits = self.more_than.is_none_or(|bound| found.0 > bound)
            && self.at_least.is_none_or(|bound| found.0 >= bound)
            && self.at_most.is_none_or(|bound| found.0 <= bound);
        let bounds = [
            ("more than", self.more_than),
            ("at least", self.at_least),
            ("at most", self.at_most),
        ];
        let bounds = bounds
            .into_iter()
            .filter_map(|(words, bound)| Some(format!("{words} {}", GoDuration(bound?))));
        let wanted = bounds.collect::<Vec<_>>().join(" and ");
        (!fits).then(|| format!("want a duration of {wanted}, found `{found}`"))
    }
}

impl<'i> Keyword<'i> for Bounds {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        self.fault(value)
            .map_or(Ok(()), |fault| Err(ValidationError::custom(fault)))
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        self.fault(value).is_none()
    }
}

/// A trigger of a function, or a list of them.
struct Triggers;

pub(crate) fn trigger<'a>(_: &'a Map<String, Value>, _: &'a Value, _: Location) -> Made<'a> {
    Ok(Box::new(Triggers))
}

impl Triggers {
    /// The fault of a trigger or of a list, in words. That of one in a list is told of that one.
    fn fault(value: &Value) -> Option<String> {
        let trigger = |value: &Value| serde_json::from_value::<Trigger>(value.clone());
        match value {
            Value::Object(_) => trigger(value).err().map(|error| error.to_string()),
            Value::Array(all) => {
                let all = all.iter().filter_map(|value| trigger(value).ok());
                distinct(all).err().map(|error| error.to_string())
            }
            _ => None,
        }
    }
}

impl<'i> Keyword<'i> for Triggers {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        Self::fault(value).map_or(Ok(()), |fault| Err(ValidationError::custom(fault)))
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        Self::fault(value).is_none()
    }
}
