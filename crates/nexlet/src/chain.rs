//! Errors with their causes, on one line.

use std::{error::Error, fmt};

/// Renders an error and its causes on one line, outermost first.
///
/// A cause that the line already ends with is left out: some crates (async-nats is one) print
/// their source in `Display` and return it from `source()` too.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            next = cause.source();
        }
        f.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn a_cause_that_was_said_already_is_left_out() {
        let root = Layer {
            text: "no such file",
            source: None,
        };
        let middle = Layer {
            text: "cannot open: no such file",
            source: Some(Box::new(root)),
        };
        let top = Layer {
            text: "failed to fetch",
            source: Some(Box::new(middle)),
        };

        assert_eq!(
            Chain(&top).to_string(),
            "failed to fetch: cannot open: no such file"
        );
    }
}
