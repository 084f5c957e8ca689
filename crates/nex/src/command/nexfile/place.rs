//! Places in a text, and what is wrong there, as a person gets it.

use crate::{error::Problem, print::table::printable};

/// How many characters of a line are shown around a place.
const SHOWN_BEFORE: usize = 60;
const SHOWN_AFTER: usize = 60;

/// A place in a text, counted from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    /// How much of the text from there on is meant; it may go over several lines.
    pub(super) width: usize,
}

impl Place {
    /// The first character.
    pub(super) const START: Self = Self {
        line: 1,
        column: 1,
        width: 1,
    };
}

/// What is wrong at a place.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
        }
    }

    /// With the line of the text that it is about.
    pub(super) fn problem(self, text: &str) -> Problem {
        Problem {
            line: self.place.line,
            column: self.place.column,
            message: printable(&self.message),
            excerpt: excerpt(text, self.place),
        }
    }
}

/// The line, and a mark below the place; nothing for a place behind the end of the text.
fn excerpt(text: &str, place: Place) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(line) = text.lines().nth(place.line - 1) else {
        return String::new();
    };
    let before = place.column - 1;
    let first = before.saturating_sub(SHOWN_BEFORE);
    // A tab is one character of the place, so it is one here.
    let line = line.replace('\t', " ");
    let shown: String = line
        .chars()
        .skip(first)
        .take(before - first + SHOWN_AFTER)
        .collect();
    let room = shown.chars().count().saturating_sub(before - first).max(1);
    let (cut, blanks) = match first {
        0 => ("", before),
        _ => ("…", before - first + 1),
    };
    let number = place.line.to_string();
    format!(
        "{number} | {cut}{}\n{:width$} | {}{}",
        printable(&shown),
        "",
        " ".repeat(blanks),
        "^".repeat(place.width.clamp(1, room)),
        width = number.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, column: usize, width: usize) -> String {
        excerpt(
            text,
            Place {
                line,
                column,
                width,
            },
        )
    }

    #[test]
    fn the_line_is_shown_and_the_place_marked() {
        let text = "name: web\n\u{9}lifecyle: servicë\n";
        assert_eq!(
            shown(text, 2, 2, 8),
            "2 |  lifecyle: servicë\n  |  ^^^^^^^^"
        );
        // What goes on in the next line is marked to the end of this one.
        assert_eq!(shown(text, 1, 7, 30), "1 | name: web\n  |       ^^^");
        assert_eq!(shown(text, 9, 1, 1), "");
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));

        let excerpt = shown(&text, 1, 501, 4);

        let [line, mark] = excerpt.lines().collect::<Vec<_>>()[..] else {
            panic!("{excerpt}");
        };
        assert!(line.chars().count() < 140, "{line}");
        let here = line.chars().position(|c| c == 'H');
        assert_eq!(here, mark.chars().position(|c| c == '^'));
    }

    #[test]
    fn a_text_cannot_control_the_terminal() {
        assert!(!shown("a: \x1b[2J", 1, 1, 1).contains('\x1b'));
    }
}
