//! Nexfiles: where they are found, how they are read, and what is wrong with them.
//!
//! A file is read as a tree of values with their places, checked against the published schema, and
//! only then taken apart. What a nexlet's schema says about the start request in it is told with
//! the same places.

mod place;
mod tree;

use std::{
    io::{self, Read},
    path::Path,
};

use nex_client::StartSpec;
use nex_protocol::{
    Nexfile,
    nexfile::{NEXFILE, NEXFILE_SCHEMA},
    text::decode,
};
use nex_schema::{Complaint, Complaints, Schema};

use super::types;
use crate::{
    cli::typography,
    context::Context,
    error::{CommandError, Kind, Problem},
};
use place::{Fault, Place};
use tree::Node;

/// The largest file that is read: a deploy may not be larger.
const MAX_BYTES: usize = nex_protocol::MAX_CONTROL_REQUEST_BYTES;

/// Where the start request stands in a file.
const START_REQUEST: &str = "/start_request";

/// The name for standard input on a command line.
const STDIN: &str = "-";

/// A file that could be read, and its text.
#[derive(Debug)]
pub(super) struct Document {
    /// What it is called in messages.
    name: String,
    text: String,
    root: Node,
    nexfile: Nexfile,
}

impl Document {
    /// The file that was named, or standard input for `-`.
    ///
    /// # Errors
    /// When it cannot be read, or is no Nexfile; says where and why not.
    pub(super) fn open(path: &Path) -> Result<Self, CommandError> {
        if path == Path::new(STDIN) {
            return Self::read("standard input", io::stdin().lock());
        }
        let name = path.display().to_string();
        let file = std::fs::File::open(path).map_err(|error| {
            CommandError::usage(format!("failed to read `{name}`"))
                .because(&error)
                .hint("check the path, and who may read the file; `-` is standard input")
        })?;
        Self::read(&name, file)
    }

    /// The file `Nexfile` in the working directory, where there is one. That it is used is said on
    /// standard error.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn here(context: &Context) -> Result<Option<Self>, CommandError> {
        if !Path::new(NEXFILE).is_file() {
            return Ok(None);
        }
        context.printer.note(format!("using `./{NEXFILE}`"));
        let opened = Self::open(Path::new(NEXFILE));
        opened.map(Some).map_err(|error| {
            error.hint(format!(
                "`./{NEXFILE}` is used because nothing else says what to start; if it belongs to another program: \
                 `-f FILE`"
            ))
        })
    }

    fn read(name: &str, source: impl Read) -> Result<Self, CommandError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_BYTES)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        source
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| {
                CommandError::usage(format!("failed to read `{name}`")).because(&error)
            })?;
        if bytes.len() > MAX_BYTES {
            let limit = MAX_BYTES / 1024;
            return Err(CommandError::usage(format!("failed to read `{name}`"))
                .cause(format!(
                    "it has more than {limit} KiB, the most that a node takes"
                ))
                .hint("keep what is large in an artifact, and name that in `start_request`"));
        }
        let text = decode(bytes)
            .map_err(|error| CommandError::usage(format!("failed to read `{name}`: {error}")))?;
        Self::parse(name, text)
    }

    fn parse(name: &str, text: String) -> Result<Self, CommandError> {
        let failed = || CommandError::usage(format!("failed to read `{name}`"));
        let root = Node::parse(&text).map_err(|fault| {
            let note = typography::note(&text, fault.place.line, fault.place.column);
            let error = failed().problems(vec![fault.problem(&text)]);
            note.into_iter().fold(error, CommandError::hint)
        })?;
        if root.is_nothing() {
            return Err(failed().cause("there is nothing in it").hint(EXAMPLE));
        }
        let value = root.to_value();
        let schema = Schema::compile(NEXFILE_SCHEMA)
            .map_err(|error| CommandError::from_error(Kind::Internal, &error))?;
        if let Err(complaints) = schema.check(&value) {
            return Err(complain(failed(), &root, &text, &complaints, ""));
        }
        // The schema is that of the type: what fits it can be read.
        let nexfile = serde_json::from_value(value).map_err(|error| failed().because(&error))?;
        Ok(Self {
            name: name.to_owned(),
            text,
            root,
            nexfile,
        })
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What is to be started.
    ///
    /// # Errors
    /// When its type or its name cannot be one; says where they stand.
    pub(super) fn spec(&self) -> Result<StartSpec, CommandError> {
        let nexfile = &self.nexfile;
        types::checked(&nexfile.workload_type).map_err(|error| self.wrong("/type", &error))?;
        if !nexfile.name.is_empty() {
            types::checked_name(&nexfile.name).map_err(|error| self.wrong("/name", &error))?;
        }
        Ok(StartSpec {
            name: nexfile.name.clone(),
            description: nexfile.description.clone(),
            tags: nexfile.tags.clone(),
            ..StartSpec::new(
                &nexfile.workload_type,
                nexfile.lifecycle,
                &nexfile.start_request,
            )
        })
    }

    /// A part of it cannot be used.
    fn wrong(&self, pointer: &str, error: &CommandError) -> CommandError {
        let fault = Fault::new(self.root.find(pointer, None), error.message());
        CommandError::usage(format!("failed to read `{}`", self.name))
            .problems(vec![fault.problem(&self.text)])
    }

    /// Its start request does not fit a nexlet's schema.
    pub(super) fn unfit(&self, workload_type: &str, complaints: &Complaints) -> CommandError {
        let message = format!("`{}` does not fit `{workload_type}` workloads", self.name);
        let error = CommandError::usage(message);
        complain(error, &self.root, &self.text, complaints, START_REQUEST)
            .hint(types::what_it_takes(workload_type))
    }
}

/// How a small one looks.
const EXAMPLE: &str = "for example:\n  name: date\n  type: native\n  lifecycle: job\n  start_request: {uri: \"file:///bin/date\"}";

/// Adds what does not fit, with places. `within` is the part that was checked.
fn complain(
    error: CommandError,
    root: &Node,
    text: &str,
    complaints: &Complaints,
    within: &str,
) -> CommandError {
    let complaints = complaints.as_slice();
    let problems = complaints.iter();
    let problems = problems.map(|complaint| problem(root, text, complaint, within));
    let mut problems: Vec<Problem> = problems.collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    let mut error = error.problems(problems);
    for meant in complaints
        .iter()
        .filter_map(|complaint| complaint.nearest.as_deref())
    {
        error = error.hint(format!("did you mean `{meant}`?"));
    }
    let keys = complaints
        .iter()
        .filter_map(|complaint| complaint.key.as_deref());
    if let Some(hint) = keys.filter_map(typography::hint_about).next() {
        error = error.hint(hint);
    }
    if complaints.iter().any(is_unquoted) {
        error = error.hint(UNQUOTED);
    }
    if complaints
        .iter()
        .any(|complaint| complaint.text == "want a string, found null")
    {
        error = error.hint(EMPTY);
    }
    error
}

/// What to do where YAML takes a string for something else.
const UNQUOTED: &str =
    r#"a string that looks like something else stands in quotes: "1.10", "true""#;

/// The hint for a key without a value, which YAML reads as `null`.
const EMPTY: &str = r#"a key without a value is `null`; an empty string is `""`"#;

fn is_unquoted(complaint: &Complaint) -> bool {
    let found = complaint.text.strip_prefix("want a string, found ");
    matches!(found, Some("a number" | "true" | "false"))
}

fn problem(root: &Node, text: &str, complaint: &Complaint, within: &str) -> Problem {
    let pointer = format!("{within}{}", complaint.pointer);
    let place = root.find(&pointer, complaint.key.as_deref());
    let message = match pointer.as_str() {
        "" => complaint.text.clone(),
        pointer => format!("at `{pointer}`: {}", complaint.text),
    };
    // A mapping or a list is meant from its beginning, not as a whole.
    let place = match complaint.key {
        None if complaint.text.starts_with("missing key") => Place { width: 1, ..place },
        _ => place,
    };
    Fault::new(place, message).problem(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const WEB: &str = "\
name: web
type: native
tags: {region: lab}
lifecycle: service
start_request:
  uri: file:///usr/bin/web
  argv: [\"-p\", \"80\"]
";

    fn parse(text: &str) -> Result<Document, CommandError> {
        Document::parse("Nexfile", text.to_owned())
    }

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().text()
    }

    #[test]
    fn a_file_is_read_in_both_forms() {
        let yaml = parse(WEB).unwrap();
        let json = parse(&serde_json::to_string(&yaml.nexfile).unwrap()).unwrap();

        assert_eq!(&yaml.nexfile, &json.nexfile);
        assert_eq!(yaml.nexfile.name, "web");
        assert_eq!(yaml.nexfile.tags["region"], "lab");
        let request = json!({"uri": "file:///usr/bin/web", "argv": ["-p", "80"]});
        assert_eq!(yaml.nexfile.start_request, request);
    }

    #[test]
    fn a_file_of_an_editor_of_windows_is_read() {
        let plain = parse(WEB).unwrap().nexfile;
        let json = serde_json::to_string_pretty(&plain).unwrap();
        for text in [WEB, &json] {
            let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
            let read = Document::read("Nexfile", text.as_bytes()).unwrap();
            assert_eq!(read.nexfile, plain);
        }
        let slip = format!("\u{feff}{}", WEB.replace("lifecycle", "lifecyle"));
        let slip = Document::read("Nexfile", slip.replace('\n', "\r\n").as_bytes());
        let text = slip.unwrap_err().text();
        assert!(
            text.contains("line 4, column 1: unknown key `lifecyle`\n    4 | lifecyle: service\n"),
            "{text}"
        );
        let first = Document::read("Nexfile", "\u{feff}nam: web".as_bytes());
        let text = first.unwrap_err().text();
        assert!(
            text.contains("line 1, column 1: unknown key `nam`"),
            "{text}"
        );
    }

    #[test]
    fn a_slip_of_the_pen_has_its_line_and_what_was_meant() {
        assert_eq!(
            refused(&WEB.replace("lifecycle", "lifecyle")),
            "\
error: failed to read `Nexfile`: line 4, column 1: unknown key `lifecyle`
    4 | lifecyle: service
      | ^^^^^^^^

hint: did you mean `lifecycle`?"
        );
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        for (text, wanted) in [
            (
                WEB.replace("lab", "1.10"),
                "line 3, column 16: at `/tags/region`: want a string, found a number\n    3 | tags: {region: 1.10}\n      |                ^^^^\n\nhint: a string that looks like",
            ),
            (
                WEB.replace(": service", ": daemon"),
                "line 4, column 12: at `/lifecycle`: want one of `service`, `job`, `function`, found `daemon`",
            ),
            (
                WEB.replace("name: web", "name: [web]"),
                "line 1, column 7: at `/name`",
            ),
            (
                format!("{WEB}name: other\n"),
                "line 8, column 1: duplicate mapping key `name`",
            ),
            (
                "[1, 2]".to_owned(),
                "line 1, column 1: want a mapping, found a list",
            ),
            (
                "just words".to_owned(),
                "line 1, column 1: want a mapping, found a string",
            ),
        ] {
            let refused = refused(&text);
            assert!(refused.contains(wanted), "{refused}");
        }
    }

    #[test]
    fn characters_of_copied_text_are_named() {
        for text in [
            "{\"name\": “web”, \"type\": \"native\"",
            "name: web\ntags: {“a: b",
            "name: web\n\u{a0}\u{a0}type: native\n",
            "{\"name\": \"web”, \"type\": \"native\"}",
        ] {
            let text = refused(text);
            assert!(text.contains("hint: ") && text.contains("(U+"), "{text}");
        }
        let named = parse(&WEB.replace(": web", ": “web”")).unwrap();
        let text = named.spec().unwrap_err().text();
        assert!(
            text.contains("line 1, column 7: invalid name `“web”`"),
            "{text}"
        );
        let described = format!("{WEB}description: “the web”\u{a0}\n");
        assert!(parse(&described).unwrap().spec().is_ok());
    }

    #[test]
    fn json_without_a_key_that_is_needed_is_refused() {
        let refused = refused(r#"{"name": "web", "type": "native", "lifecycle": "job"}"#);
        assert!(refused.contains("missing key `start_request`"), "{refused}");
    }

    #[test]
    fn an_empty_file_is_answered_with_an_example() {
        for text in ["", "# only this\n", "\n\n"] {
            let refused = refused(text);
            assert!(refused.contains("there is nothing in it"), "{refused}");
            assert!(refused.contains("start_request: {uri:"), "{refused}");
        }
    }

    #[test]
    fn the_example_is_one() {
        let (_, example) = EXAMPLE.split_once('\n').unwrap();
        assert_eq!(parse(example).unwrap().nexfile.name, "date");
    }

    #[test]
    fn keys_without_a_value_are_as_if_left_out() {
        let text = format!("{}description:\n", WEB.replace(" {region: lab}", ""));
        let document = parse(&text).unwrap();
        assert!(document.nexfile.tags.is_empty());
        assert!(document.nexfile.description.is_empty());
    }

    #[test]
    fn a_key_without_a_value_in_a_map_of_strings_has_its_line() {
        let text = refused(&WEB.replace("lab", ""));
        for wanted in [
            "line 3, column 14: at `/tags/region`: want a string, found null",
            "hint: a key without a value is `null`; an empty string is `\"\"`",
        ] {
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn a_nexlets_complaint_has_its_line() {
        let document = parse(WEB).unwrap();
        let schema = Schema::compile(
            r#"{"properties": {"uri": {}, "argv": {"items": {"type": "integer"}}}, "required": ["image"]}"#,
        )
        .unwrap();
        let complaints = schema.check(&document.nexfile.start_request).unwrap_err();

        let text = document.unfit("native", &complaints).text();

        for wanted in [
            "error: `Nexfile` does not fit `native` workloads: line ",
            "line 7, column 10: at `/start_request/argv/0`: want a whole number, found a string",
            "line 6, column 3: at `/start_request`: missing key `image`",
        ] {
            assert!(text.contains(wanted), "{text}");
        }
    }

    proptest! {
        /// Whatever is in a file, the answer is a Nexfile or an error with places in the text.
        #[test]
        fn any_text_is_answered(
            at in 0..WEB.len(),
            gone in 0..8_usize,
            put in "[ -~\\t\\n\u{e9}\u{1f600}&*!|>{}\\[\\]:#%@`'\"-]{0,12}",
        ) {
            let end = (at + gone).min(WEB.len());
            let text = format!("{}{put}{}", &WEB[..at], &WEB[end..]);
            if let Err(error) = parse(&text) {
                let json = error.json();
                let problems = json["problems"].as_array().cloned().unwrap_or_default();
                let lines = text.lines().count() as u64 + 1;
                for problem in problems {
                    let line = problem["line"].as_u64().unwrap();
                    prop_assert!((1..=lines).contains(&line), "{text:?}: {problem}");
                }
                prop_assert!(error.text().starts_with("error: failed to read `Nexfile`"));
            }
        }
    }

    #[test]
    fn what_is_too_large_or_no_text_is_refused() {
        let read = |bytes: &[u8]| Document::read("big", bytes).unwrap_err().text();
        let large = read(&vec![b'#'; MAX_BYTES + 1]);
        assert!(large.contains("more than 256 KiB"), "{large}");
        let binary = read(b"name: web\ntype: \xff\n");
        assert!(binary.contains("line 2: not UTF-8"), "{binary}");
        let wide = read(b"\xff\xfen\0");
        assert!(wide.contains("UTF-16: save it as UTF-8"), "{wide}");
    }
}
