//! What was thrown, as a text with its place in the script.

use nex_functions::{Failure, FailureKind, Position};
use rquickjs::{Coerced, Ctx, Error, FromJs as _, Value};

use crate::{console::show, files::Files, task::Task};

/// The longest text of an exception in bytes, so that its place still fits behind it.
const MAX_TEXT_BYTES: usize = 600;
/// How many calls of a stack are shown.
const MAX_FRAMES: usize = 20;
/// How the names of our own JavaScript begin.
pub(crate) const OURS: &str = "nex:";

/// An exception that has been taken from the context.
#[derive(Debug)]
pub(crate) struct Thrown {
    /// `Error: text`, or the value itself where it is no error.
    pub(crate) text: String,
    /// Where, as far as the stack tells. What is no error has no stack.
    pub(crate) position: Option<Position>,
    /// The calls that led there, on one line; empty where there were none but the function's.
    pub(crate) stack: String,
    /// The next step, where the error has the property `hint`, or uses a name that only Node knows.
    pub(crate) hint: Option<String>,
}

/// Advice about names that code for Node uses, and that are not there.
const NODE_NAMES: [(&str, &str); 6] = [
    (
        "require",
        "a function imports files of its own folder, `import x from './name.js'`, deployed as `nex devrun ./folder`; \
         packages are bundled, as `npx esbuild --bundle --format=esm` does",
    ),
    ("module", COMMON_JS),
    ("exports", COMMON_JS),
    ("__dirname", NO_FILES),
    ("__filename", NO_FILES),
    (
        "Buffer",
        "bytes are in `Uint8Array`; `TextEncoder`, `TextDecoder`, `atob` and `btoa` convert them",
    ),
];
const COMMON_JS: &str =
    "a function is no CommonJS module: want `export default async (request, nex) => …`";
const NO_FILES: &str = "a function reads no files: import them, `import data from './data.json'`";

/// Advice about an error of the engine that names one of [`NODE_NAMES`].
fn advice(text: &str) -> Option<&'static str> {
    let name = text
        .strip_prefix("ReferenceError: ")?
        .strip_suffix(" is not defined")?;
    let name = name.trim_matches('\'');
    let known = NODE_NAMES.iter().find(|(known, _)| *known == name);
    known.map(|(_, advice)| *advice)
}

impl Thrown {
    /// Takes the pending exception.
    pub(crate) fn take(ctx: &Ctx<'_>, files: &Files) -> Self {
        Self::of(&ctx.catch(), files)
    }

    /// What a thrown value says.
    pub(crate) fn of(value: &Value<'_>, files: &Files) -> Self {
        let mut text = if value.is_error() {
            name_and_message(value)
        } else {
            show(value)
        };
        if text.len() > MAX_TEXT_BYTES {
            text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
            text.push('…');
        }
        let mut hint = property(value, "hint");
        if let Some(advice) = advice(&text) {
            text = format!("{text}; {advice}");
            hint = Some(advice.to_owned());
        }
        let stack = property(value, "stack").unwrap_or_default();
        let position = position(&stack, files.paths());
        let stack = trace(&stack);
        Self {
            text,
            position,
            stack,
            hint,
        }
    }

    /// Whether the engine says that there was no memory left.
    ///
    /// Often there is none for its error either. Then it throws an error without a message, or
    /// `null`; a script that throws `null` itself cannot be told from that.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        matches!(
            self.text.as_str(),
            "InternalError: out of memory" | "InternalError" | "null"
        )
    }
}

/// The failure that the pending exception, or an error of the library, means for this task, and the calls
/// that led there. Code of a task that is late was interrupted.
pub(crate) fn failed(
    ctx: &Ctx<'_>,
    error: Error,
    task: Option<&Task>,
    files: &Files,
    memory_bytes: usize,
) -> (Failure, String) {
    let thrown = match error {
        Error::Exception | Error::Unknown | Error::Allocation => Thrown::take(ctx, files),
        other => {
            let failure = Failure::new(FailureKind::Code, other.to_string());
            return (failure, String::new());
        }
    };
    // Asked after the exception was read: that may be code of the script, and be interrupted, too.
    let (kind, message) = if task.is_some_and(Task::is_late) {
        (FailureKind::Deadline, "interrupted".to_owned())
    } else if thrown.is_out_of_memory() {
        (
            FailureKind::Memory,
            out_of_memory(&thrown.text, memory_bytes),
        )
    } else {
        (FailureKind::Code, thrown.text)
    };
    let failure = Failure {
        kind,
        message,
        position: thrown.position,
        hint: thrown.hint,
    };
    (failure, thrown.stack)
}

fn out_of_memory(thrown: &str, memory_bytes: usize) -> String {
    let limit = memory_bytes / (1024 * 1024);
    let doubt = match thrown {
        "null" => " (or it threw `null`, which cannot be told apart)",
        _ => "",
    };
    format!("out of memory: its limit is {limit} MiB{doubt}")
}

/// An error with its stack, on one line, for the console.
pub(crate) fn describe(error: &Value<'_>) -> String {
    let mut text = name_and_message(error);
    for frame in property(error, "stack").unwrap_or_default().lines() {
        text.push(' ');
        text.push_str(frame.trim());
    }
    text
}

/// What `String(error)` says. That can be code of the script, and so can fail.
fn name_and_message(error: &Value<'_>) -> String {
    match Coerced::<String>::from_js(error.ctx(), error.clone()) {
        Ok(text) => text.0,
        Err(_) => {
            error.ctx().catch();
            "an error that cannot be shown".to_owned()
        }
    }
}

/// A property of an error that is text.
fn property(error: &Value<'_>, name: &str) -> Option<String> {
    let object = error.as_object().filter(|_| error.is_error())?;
    match object.get::<_, Value<'_>>(name) {
        Ok(value) => value.as_string()?.to_string().ok(),
        Err(_) => {
            error.ctx().catch();
            None
        }
    }
}

/// The first place in one of the files that a stack names.
///
/// Its lines read `at function (file:line:column)` or `at file:line:column`.
fn position<'a>(stack: &str, files: impl Iterator<Item = &'a str> + Clone) -> Option<Position> {
    stack.lines().find_map(|frame| {
        let place = frame.trim_end().trim_end_matches(')');
        let (rest, column) = place.rsplit_once(':')?;
        let (rest, line) = rest.rsplit_once(':')?;
        let file = files.clone().find(|file| {
            let before = rest.strip_suffix(file);
            before.is_some_and(|before| before.ends_with(['(', ' ']))
        })?;
        Some(Position {
            file: file.to_owned(),
            line: line.parse().ok()?,
            column: column.parse().ok()?,
        })
    })
}

/// A stack on one line, without the frames that are ours; empty where only one is left, which is the
/// place that is told anyway.
fn trace(stack: &str) -> String {
    let frames: Vec<&str> = stack
        .lines()
        .map(str::trim)
        .filter(|frame| !frame.is_empty() && !frame.contains(OURS))
        .take(MAX_FRAMES)
        .collect();
    match frames.len() {
        0 | 1 => String::new(),
        _ => frames.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_the_first_frame_of_the_script() {
        let stack = "    at map (native)\n    at f (my (1).js:3:14)\n    at my (1).js:9:1\n";

        let place = position(stack, ["my (1).js"].into_iter()).unwrap();

        assert_eq!((place.line, place.column), (3, 14));
        assert_eq!(
            position("    at other.js:1:1\n", ["r.js"].into_iter()),
            None
        );
        assert_eq!(
            position("    at x.js:4:5\n", ["y.js", "x.js"].into_iter())
                .unwrap()
                .line,
            4
        );
    }
}
