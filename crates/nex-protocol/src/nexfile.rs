//! The file in which people write down a workload.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Tags, lenient::null_default, workload::Lifecycle};

/// The name under which the command line looks for it in the working directory.
pub const NEXFILE: &str = "Nexfile";

/// The JSON Schema of a [`Nexfile`], for editors and for checks with places.
pub const NEXFILE_SCHEMA: &str = include_str!("../../../schemas/nexfile.json");

/// A workload for Nex: what it is called, what runs it, and what to run.
///
/// It names no namespace: that is of who starts it. A key that is not listed here is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nexfile {
    /// The workload's name, one word; empty for one that the nexlet makes up.
    pub name: String,
    /// What it is for. Shown to people, not interpreted.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub description: String,
    /// Tags that a node must have, all of them, to run it.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Tags::is_empty"
    )]
    #[cfg_attr(test, schemars(with = "Option<Tags>"))]
    pub tags: Tags,
    /// The type of workload, such as `native` or `js`, and so the nexlet that runs it.
    #[serde(rename = "type")]
    pub workload_type: String,
    /// How long it is meant to live.
    pub lifecycle: Lifecycle,
    /// What the nexlet wants to know, in its own form; `{}` where it wants nothing.
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
