//! The file in which people write down a workload.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Tags, lenient::null_default, workload::Lifecycle};

/// The name under which the command line looks for it in the working directory.
pub const NEXFILE: &str = "Nexfile";

/// A workload, as a file says it. It names no namespace: that is the caller's.
///
/// A key that it does not know is refused: in a file written by hand that is a slip of the pen,
/// which Go Nex passes over in silence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nexfile {
    /// The workload's name.
    pub name: String,
    /// For people.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub description: String,
    /// Only nodes with all these tags are asked.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Tags::is_empty"
    )]
    pub tags: Tags,
    /// The type, and so the nexlet.
    #[serde(rename = "type")]
    pub workload_type: String,
    /// How long it is meant to live.
    pub lifecycle: Lifecycle,
    /// The nexlet's own start request; `{}` for a nexlet that wants nothing.
    pub start_request: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_named() {
        let file = r#"{"name":"web","type":"native","lifecycle":"service","tag":{}}"#;
        let error = serde_json::from_str::<Nexfile>(file).unwrap_err();
        assert!(error.to_string().contains("unknown field `tag`"), "{error}");
    }

    #[test]
    fn a_file_says_what_runs_and_how() {
        let whole = serde_json::json!({"name": "web", "type": "native", "lifecycle": "job", "start_request": {}});
        assert!(serde_json::from_value::<Nexfile>(whole.clone()).is_ok());
        for key in ["name", "type", "lifecycle", "start_request"] {
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(key);
            assert!(serde_json::from_value::<Nexfile>(without).is_err(), "{key}");
        }
    }
}
