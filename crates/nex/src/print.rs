//! The only way to standard output and standard error.

pub(crate) mod headers;
pub(crate) mod labels;
pub(crate) mod line;
pub(crate) mod table;
pub(crate) mod time;

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use serde::Serialize;

use crate::{
    environment::Environment,
    error::{CommandError, Kind},
};

/// Prints results to standard output, and everything about them to standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    json: bool,
    terminal: bool,
    colour: bool,
    error_colour: bool,
}

/// A colour of a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Cyan,
    Dim,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Cyan => "36",
            Self::Dim => "2",
        }
    }

    fn paint(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self.code())
    }
}

impl Printer {
    /// A printer for JSON, or for people with colours where there is a terminal.
    pub(crate) fn new(json: bool, env: &Environment) -> Self {
        Self {
            json,
            terminal: env.terminals.stdout,
            colour: env.wants_colour(env.terminals.stdout),
            error_colour: env.wants_colour(env.terminals.stderr),
        }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person reads standard output.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A text for standard output, coloured on a terminal.
    pub(crate) fn coloured(&self, colour: Colour, text: &str) -> String {
        if self.colour {
            colour.paint(text)
        } else {
            text.to_owned()
        }
    }

    /// A line on standard output.
    ///
    /// # Errors
    /// When nobody takes it.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), CommandError> {
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// Bytes on standard output, as they are.
    ///
    /// # Errors
    /// When nobody takes them.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), CommandError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// A value as one line of JSON on standard output.
    ///
    /// # Errors
    /// When nobody takes it.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), CommandError> {
        let text = serde_json::to_string(value).map_err(|error| {
            CommandError::new(Kind::Internal, "failed to write JSON").because(&error)
        })?;
        self.line(text)
    }

    /// A line on standard error, for what is not the result. Nobody listening is no error.
    pub(crate) fn note(&self, text: impl Display) {
        writeln!(io::stderr().lock(), "{text}").ok();
    }

    /// An error on standard error, as text or as JSON.
    pub(crate) fn error(&self, error: &CommandError) {
        if error.kind() == Kind::OutputClosed {
            return;
        }
        if self.json {
            return self.note(error.json());
        }
        let text = error.text();
        let Some(message) = text.strip_prefix("error:").filter(|_| self.error_colour) else {
            return self.note(text);
        };
        self.note(format!(
            "{}{}",
            Colour::Red.paint("error:"),
            message.replace("\nhint:", &format!("\n{}", Colour::Cyan.paint("hint:")))
        ));
    }
}
