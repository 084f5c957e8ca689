//! Errors for people: what went wrong, why, and what to type next; and the exit codes.

use std::{error::Error, fmt, io};

use nex_client::LogLine;
use serde::Serialize;
use serde_json::{Value, json};

use crate::print::line::safe;

/// What a command returns: the exit code of a program that it ran, or 0.
pub(crate) type CommandResult = Result<Exit, CommandError>;

/// How a command that did its work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// All is well.
    pub(crate) const OK: Self = Self(0);
}

/// The kind of an error, which decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Somebody refused, or it failed.
    Failed,
    /// The command line, or a variable or file that it names, cannot be used.
    Usage,
    /// NATS does not answer.
    Unreachable,
    /// What was named does not exist, or nobody runs it.
    NotFound,
    /// The answer is printed, but somebody did not contribute to it.
    Incomplete,
    /// A fault of ours.
    Internal,
    /// The reader of our output has gone; there is nobody to tell.
    OutputClosed,
}

impl Kind {
    /// The exit code. Stable: scripts test it.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotFound => 4,
            Self::Incomplete => 5,
            Self::Internal => 70,
            // What a shell reports for a program that SIGPIPE ended.
            Self::OutputClosed => 141,
        }
    }

    /// The word in JSON. Stable, as the code.
    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::NotFound => "not_found",
            Self::Incomplete => "incomplete",
            Self::Internal => "internal",
            Self::OutputClosed => "output_closed",
        }
    }
}

/// The exit codes, for the end of `nex --help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed, or refused by who was asked
  2    the command line cannot be used
  3    NATS does not answer
  4    not found, or nobody runs it
  5    nodes that should have answered did not: what is printed is incomplete
  70   a bug in nex
  `nex workload start --wait` and `nex devrun --follow` of a job end with the job's exit code,
  or with 128 plus the number of the signal that ended it.";

/// An error as a person gets it.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
    problems: Vec<Problem>,
    /// In a box, since few errors have it and all are moved about.
    background: Option<Box<Background>>,
}

/// Details that only some errors have.
#[derive(Debug, Default)]
struct Background {
    /// The last lines of the workload that the error is about.
    lines: Vec<LogLine>,
    /// The search for a node, where it was asked for and errors are JSON.
    explanation: Option<Value>,
    /// Set where NATS refused the command for its credentials, or for the lack of them.
    refused: bool,
}

/// What is wrong at a place of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// What is wrong there.
    pub(crate) message: String,
    /// The line, with a mark under the place; may be empty.
    #[serde(skip)]
    pub(crate) excerpt: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )
    }
}

impl CommandError {
    /// An error of that kind.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            problems: Vec::new(),
            background: None,
        }
    }

    /// It failed, or somebody refused.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The command line cannot be used.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// What was named does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// Takes an error's own text as the message and its sources as causes.
    pub(crate) fn from_error(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        let mut taken = Self::new(kind, error.to_string());
        if let Some(source) = error.source() {
            taken = taken.because(source);
        }
        taken
    }

    /// Changes the kind, and so the exit code.
    pub(crate) fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Adds an error and its sources as causes.
    ///
    /// A cause with which the text before it ends is left out: some crates print their source and
    /// return it from `source()` too.
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self = self.cause(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds a cause that is text.
    pub(crate) fn cause(mut self, text: impl Into<String>) -> Self {
        let text = text.into();
        let last = self.causes.last().unwrap_or(&self.message);
        if !text.is_empty() && !last.ends_with(&text) {
            self.causes.push(text);
        }
        self
    }

    /// Adds an error that is already in words: its message and causes as causes, and its hints.
    pub(crate) fn because_told(mut self, told: Self) -> Self {
        for text in std::iter::once(told.message).chain(told.causes) {
            self = self.cause(text);
        }
        self.hints.extend(told.hints);
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, text: impl Into<String>) -> Self {
        self.hints.push(text.into());
        self
    }

    /// Adds what to do next where no other hint does.
    pub(crate) fn or_hint(self, text: impl Into<String>) -> Self {
        match self.hints.is_empty() {
            true => self.hint(text),
            false => self,
        }
    }

    /// Returns whether the message or a cause has one of these lower-case texts, in any case.
    pub(crate) fn mentions(&self, texts: &[&str]) -> bool {
        let mut told = std::iter::once(&self.message).chain(&self.causes);
        told.any(|told| {
            let told = told.to_lowercase();
            texts.iter().any(|text| told.contains(text))
        })
    }

    /// Adds what is wrong at places of a file. The first one becomes a part of the message.
    pub(crate) fn problems(mut self, problems: Vec<Problem>) -> Self {
        if let (true, Some(first)) = (self.problems.is_empty(), problems.first()) {
            self.message.push_str(&format!(": {first}"));
        }
        self.problems.extend(problems);
        self
    }

    /// Adds the last lines of a workload that failed.
    pub(crate) fn lines(mut self, lines: Vec<LogLine>) -> Self {
        self.background.get_or_insert_default().lines = lines;
        self
    }

    /// Says that NATS refused the command for its credentials, or for the lack of them.
    pub(crate) fn refused(mut self) -> Self {
        self.background.get_or_insert_default().refused = true;
        self
    }

    /// Returns `true` where NATS refused the command for its credentials, or for the lack of them.
    pub(crate) fn is_refused(&self) -> bool {
        self.background.as_ref().is_some_and(|it| it.refused)
    }

    /// Whether it says what to do next.
    pub(crate) fn has_hints(&self) -> bool {
        !self.hints.is_empty()
    }

    /// What went wrong, without causes and hints.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The error and its causes, without hints.
    pub(crate) fn without_hints(&self) -> String {
        let told = std::iter::once(&self.message).chain(&self.causes);
        told.map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Adds how a node was looked for, for a program.
    pub(crate) fn explained(mut self, explanation: Value) -> Self {
        self.background.get_or_insert_default().explanation = Some(explanation);
        self
    }

    /// The kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    fn last_lines(&self) -> &[LogLine] {
        self.background.as_ref().map_or(&[], |it| &it.lines)
    }

    /// The lines for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}", self.message);
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                text.push_str(&format!("\n  {problem}"));
            }
            for line in problem.excerpt.lines() {
                text.push_str(&format!("\n    {line}"));
            }
        }
        for cause in &self.causes {
            text.push_str("\n  caused by: ");
            text.push_str(&indented(cause));
        }
        if !self.last_lines().is_empty() {
            text.push_str("\n\nits last lines:");
        }
        for line in self.last_lines() {
            text.push_str(&format!("\n  {}", last_line(line)));
        }
        if !self.hints.is_empty() {
            text.push('\n');
        }
        for hint in &self.hints {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        text
    }

    /// The object for a program.
    pub(crate) fn json(&self) -> Value {
        let mut object = json!({
            "error": self.message,
            "kind": self.kind.name(),
            "exit_code": self.kind.exit_code(),
            "causes": self.causes,
            "hints": self.hints,
        });
        if !self.problems.is_empty() {
            object["problems"] = json!(self.problems);
        }
        if !self.last_lines().is_empty() {
            let lines = self.last_lines().iter();
            let lines = lines.map(|it| json!({ "stream": it.stream.as_str(), "line": it.line }));
            object["logs"] = lines.collect();
        }
        let background = self.background.as_ref();
        if let Some(explanation) = background.and_then(|it| it.explanation.as_ref()) {
            object["explanation"] = explanation.clone();
        }
        object
    }
}

/// A line of a workload that failed, as a person reads it.
pub(crate) fn last_line(line: &LogLine) -> String {
    format!("{} | {}", line.stream.as_str(), safe(&line.line))
}

/// Keeps the further lines of a text apart from what follows it.
fn indented(text: &str) -> String {
    text.replace('\n', "\n    ")
}

impl From<io::Error> for CommandError {
    /// For writes to our own output, the only I/O whose error needs no words of its own.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(Kind::OutputClosed, "the reader of the output has gone")
        } else {
            Self::failed("failed to write the output").because(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Repeats);

    #[derive(Debug, thiserror::Error)]
    #[error("failed to connect: refused")]
    struct Repeats(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Inner;

    #[test]
    fn a_person_reads_message_causes_and_hints() {
        let error = CommandError::from_error(Kind::Failed, &Outer(Repeats(Inner)))
            .hint("run `nex up`")
            .hint("or name a server with `-s`");

        assert_eq!(
            error.text(),
            "error: outer\n  caused by: failed to connect: refused\n\nhint: run `nex up`\nhint: or name a server with `-s`"
        );
    }

    #[test]
    fn an_error_without_hints_has_no_blank_line() {
        assert_eq!(CommandError::failed("no").text(), "error: no");
    }

    #[test]
    fn a_program_reads_the_kind_and_the_code() {
        let json = CommandError::not_found("no workload `x`").hint("h").json();
        assert_eq!(
            json,
            serde_json::json!({
                "error": "no workload `x`", "kind": "not_found", "exit_code": 4,
                "causes": [], "hints": ["h"],
            })
        );
    }

    #[test]
    fn what_is_wrong_in_a_file_is_shown_where_it_is() {
        let problem = |line, message: &str, excerpt: &str| Problem {
            line,
            column: 1,
            message: message.to_owned(),
            excerpt: excerpt.to_owned(),
        };
        let error = CommandError::usage("failed to read `Nexfile`")
            .problems(vec![
                problem(4, "unknown key `tag`", "4 | tag: x\n  | ^^^"),
                problem(7, "missing key `uri`", ""),
            ])
            .hint("did you mean `tags`?");

        assert_eq!(
            error.text(),
            "error: failed to read `Nexfile`: line 4, column 1: unknown key `tag`\n    4 | tag: x\n      | ^^^\n  line 7, column 1: missing key `uri`\n\nhint: did you mean `tags`?"
        );
        assert_eq!(
            error.json()["problems"],
            serde_json::json!([
                {"line": 4, "column": 1, "message": "unknown key `tag`"},
                {"line": 7, "column": 1, "message": "missing key `uri`"},
            ])
        );
    }

    #[test]
    fn the_exit_codes_are_those_that_the_help_lists() {
        for kind in [
            Kind::Failed,
            Kind::Usage,
            Kind::Unreachable,
            Kind::NotFound,
            Kind::Incomplete,
            Kind::Internal,
        ] {
            let line = format!("\n  {:<5}", kind.exit_code());
            assert!(EXIT_CODES.contains(&line), "{kind:?}");
        }
    }

    #[test]
    fn a_closed_pipe_is_not_a_failure_to_tell_of() {
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(CommandError::from(closed).kind(), Kind::OutputClosed);
    }
}
