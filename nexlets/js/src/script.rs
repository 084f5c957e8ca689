//! The text of a script, checked as far as that goes without running it.

use nex_functions::{Failure, FailureKind, Source};

/// A script. Its text is handed to a runtime as it is.
#[derive(Debug)]
pub struct Script {
    name: String,
    text: String,
}

impl Script {
    /// Takes a source that is UTF-8 and has no zero bytes.
    pub(crate) fn new(source: &Source) -> Result<Self, Failure> {
        let name = source.name.replace('\0', "");
        let invalid = |problem: String| Failure::new(FailureKind::Invalid, problem);
        let text = std::str::from_utf8(&source.code).map_err(|error| {
            let at = error.valid_up_to();
            invalid(format!("{name} is no UTF-8 text: byte {at} is invalid"))
        })?;
        if let Some(at) = text.find('\0') {
            let problem = format!("{name} is no script: byte {at} is zero");
            return Err(invalid(problem));
        }
        Ok(Self {
            text: text.to_owned(),
            name,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The failure of setting the script up, as it is told to who wanted to start it.
    pub(crate) fn refused(&self, failure: Failure) -> Failure {
        if failure.kind != FailureKind::Code {
            return failure;
        }
        let place = match &failure.position {
            Some(position) => position.to_string(),
            None => self.name.clone(),
        };
        let message = match failure.message.strip_prefix("SyntaxError: ") {
            Some(problem) => format!("syntax error at {place}: {problem}"),
            None => format!("the script failed at {place}: {}", failure.message),
        };
        Failure {
            kind: FailureKind::Invalid,
            message,
            position: failure.position,
        }
    }

    /// The failure of a script whose value cannot be called.
    pub(crate) fn no_function(&self, kind: &str) -> Failure {
        let name = &self.name;
        let message = format!(
            "the value of {name} is no function but {kind}: want a script that ends in `(subject, payload) => …`"
        );
        Failure::new(FailureKind::Invalid, message)
    }
}
