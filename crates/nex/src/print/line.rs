//! Lines of somebody else's output on our terminal.

/// How many characters of an id stand before a line: the first six only name the node.
const SHORT_ID_CHARS: usize = 12;

/// The beginning of an id, enough to tell workloads apart and to name one.
pub(crate) fn short(id: &str) -> &str {
    match id.char_indices().nth(SHORT_ID_CHARS) {
        Some((end, _)) => &id[..end],
        None => id,
    }
}

/// A line that may be shown on a terminal: colours and tabs stay, every other control character
/// becomes `�`. What a workload prints must not move the cursor, set the title or answer for the
/// person.
pub(crate) fn safe(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = colour(rest) {
            text.push_str(&rest[..rest.len() - after.len()]);
            rest = after;
            continue;
        }
        let shown = if next.is_control() && next != '\t' {
            '\u{fffd}'
        } else {
            next
        };
        text.push(shown);
        rest = &rest[next.len_utf8()..];
    }
    text
}

/// What follows a sequence that selects colours, where the text begins with one.
fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !(c.is_ascii_digit() || matches!(c, ';' | ':')))?;
    parameters[end..].strip_prefix('m')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_control_does_not() {
        for (line, shown) in [
            ("plain\ttext ü", "plain\ttext ü"),
            ("\x1b[31;1mred\x1b[0m", "\x1b[31;1mred\x1b[0m"),
            ("\x1b[2Jgone\r", "\u{fffd}[2Jgone\u{fffd}"),
            ("\x1b]0;title\x07", "\u{fffd}]0;title\u{fffd}"),
            ("\x1b[31", "\u{fffd}[31"),
        ] {
            assert_eq!(safe(line), shown, "{line:?}");
        }
    }

    #[test]
    fn a_short_id_is_the_beginning_of_the_id() {
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
        assert_eq!(short("w1"), "w1");
    }
}
