//! Makes flags of the values of a file.

use std::ffi::OsString;

use clap::{Arg, ArgAction};
use serde_json::Value;

/// The value name of flags that take a map.
const MAP: &str = "KEY=VALUE";

/// The words on a command line that say the same as a value of a file; none for a switch that is
/// off.
///
/// # Errors
/// Says which values the flag takes.
pub(super) fn words(arg: &Arg, value: &Value) -> Result<Vec<OsString>, String> {
    let long = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            Value::Bool(on) => Ok(if *on {
                vec![format!("--{long}").into()]
            } else {
                Vec::new()
            }),
            other => Err(format!("want `true` or `false`, not {}", kind(other))),
        };
    }
    let texts = texts(arg, value)?;
    let one = matches!(arg.get_action(), ArgAction::Set);
    if one && texts.len() != 1 {
        return Err(format!("want one value, not {}", texts.len()));
    }
    let word = |text| OsString::from(format!("--{long}={text}"));
    Ok(texts.into_iter().map(word).collect())
}

fn texts(arg: &Arg, value: &Value) -> Result<Vec<String>, String> {
    let names = arg.get_value_names().unwrap_or_default();
    let map = names.iter().any(|name| name == MAP);
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        Value::Object(pairs) if map => pairs
            .iter()
            .map(|(key, value)| Ok(format!("{key}={}", text(value)?)))
            .collect(),
        other => Ok(vec![text(other)?]),
    }
}

/// One value as it is typed; of an object its JSON.
fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) => Err(format!("want a value, not {}", kind(value))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
