//! What the command line knows about types of workloads: their aliases and usual lifecycles.

use nex_protocol::Lifecycle;

use crate::{cli::typography, error::CommandError};

/// The longest name of a type or a workload, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = nex_protocol::workload::MAX_NAME_BYTES;

/// The one name of a type that has several. The client asks for the alias first, because a nexlet
/// may have registered exactly that.
pub(crate) fn canonical(workload_type: &str) -> &str {
    match workload_type {
        "v8" | "javascript" => "js",
        other => other,
    }
}

/// How long workloads of a type are usually meant to live.
pub(crate) fn lifecycle(workload_type: &str) -> Lifecycle {
    match canonical(workload_type) {
        "js" | "wasm" => Lifecycle::Function,
        _ => Lifecycle::Service,
    }
}

/// Where to read what is in a start request of a type.
pub(crate) fn what_it_takes(workload_type: &str) -> &'static str {
    match canonical(workload_type) {
        "native" => "what it takes: docs/native.md",
        "js" => "what it takes: docs/functions.md",
        _ => "what it takes is said by who made its nexlet",
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME_BYTES
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && !typography::is_quoted(text)
}

/// A type's name that can be one.
///
/// # Errors
/// Says what was wanted.
pub(crate) fn checked(workload_type: &str) -> Result<&str, CommandError> {
    if is_name(workload_type) {
        return Ok(workload_type);
    }
    let text = workload_type.escape_debug();
    Err(CommandError::usage(format!(
        "invalid type `{text}`: want a word such as `js` or `native`"
    )))
}

/// A workload's name that can be one.
///
/// # Errors
/// Says what was wanted.
pub(crate) fn checked_name(name: &str) -> Result<&str, CommandError> {
    if is_name(name) {
        return Ok(name);
    }
    Err(CommandError::usage(format!(
        "invalid name `{}`: want at most {MAX_NAME_BYTES} bytes without spaces",
        name.escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_one_type() {
        for alias in ["js", "v8", "javascript"] {
            assert_eq!(
                (canonical(alias), lifecycle(alias)),
                ("js", Lifecycle::Function)
            );
        }
        assert_eq!(
            (canonical("native"), lifecycle("native")),
            ("native", Lifecycle::Service)
        );
    }

    #[test]
    fn a_name_is_one_word() {
        assert!(checked_name("web-1.2_ä").is_ok());
        for bad in ["", "a b", "a\n", &"x".repeat(129)] {
            assert!(checked_name(bad).is_err(), "{bad:?}");
            assert!(checked(bad).is_err(), "{bad:?}");
        }
    }
}
