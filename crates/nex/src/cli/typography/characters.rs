//! Characters that word processors, slides and web pages put in the place of those of a keyboard.

/// The kind of such a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dash,
    Quote,
    NoBreakSpace,
    Space,
    SoftHyphen,
    Invisible,
}

impl Kind {
    /// The kind in words, with its article.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dash => "a typographic dash",
            Self::Quote => "a typographic quote",
            Self::NoBreakSpace => "a non-breaking space",
            Self::Space => "a typographic space",
            Self::SoftHyphen => "a soft hyphen",
            Self::Invisible => "an invisible character",
        }
    }
}

/// The kind of a character that is seldom meant where programs read; none for all others.
pub(super) fn kind(c: char) -> Option<Kind> {
    Some(match c {
        // Hyphens, dashes and minus signs, and letters that look like them.
        '\u{2010}'..='\u{2015}'
        | '\u{2043}'
        | '\u{207b}'
        | '\u{208b}'
        | '\u{2212}'
        | '\u{2500}'
        | '\u{2501}'
        | '\u{2796}'
        | '\u{2e3a}'
        | '\u{2e3b}'
        | '\u{fe58}'
        | '\u{fe63}'
        | '\u{ff0d}'
        | '\u{ff70}'
        | '\u{30a0}'
        | '\u{30fc}'
        | '\u{02d7}'
        | '\u{05be}'
        | '\u{1806}' => Kind::Dash,
        // Quotation marks of all languages, primes, and the accents that are typed for them.
        '\u{2018}'..='\u{201f}'
        | '\u{2032}'..='\u{2037}'
        | '\u{2039}'
        | '\u{203a}'
        | '\u{ab}'
        | '\u{bb}'
        | '\u{b4}'
        | '\u{02b9}'
        | '\u{02ba}'
        | '\u{02bc}'
        | '\u{02ee}'
        | '\u{275b}'..='\u{2760}'
        | '\u{276e}'
        | '\u{276f}'
        | '\u{2e42}'
        | '\u{301d}'..='\u{301f}'
        | '\u{ff02}'
        | '\u{ff07}' => Kind::Quote,
        '\u{a0}' | '\u{2007}' | '\u{202f}' => Kind::NoBreakSpace,
        '\u{1680}'
        | '\u{2000}'..='\u{200a}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{205f}'
        | '\u{3000}' => Kind::Space,
        '\u{ad}' => Kind::SoftHyphen,
        '\u{034f}'
        | '\u{061c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{206f}'
        | '\u{feff}' => Kind::Invisible,
        _ => return None,
    })
}

/// Returns `true` for characters that look like `-`. A soft hyphen does where a line ends.
pub(super) fn is_dash(c: char) -> bool {
    matches!(kind(c), Some(Kind::Dash | Kind::SoftHyphen))
}

/// Returns `true` for characters that cannot be seen, or look like a space.
pub(super) fn is_blank(c: char) -> bool {
    !matches!(kind(c), None | Some(Kind::Dash | Kind::Quote))
}

/// Returns `true` for invisible characters that no word of a language needs. Others join letters, and emoji.
pub(super) fn is_stray(c: char) -> bool {
    matches!(kind(c), Some(Kind::Invisible | Kind::SoftHyphen))
        && !matches!(c, '\u{200c}' | '\u{200d}')
}

/// Returns `true` for quotes that are apostrophes too, behind a word.
pub(super) fn is_apostrophe(c: char) -> bool {
    matches!(
        c,
        '\u{2019}' | '\u{2032}' | '\u{02bc}' | '\u{02b9}' | '\u{b4}'
    )
}

/// A character in words, as `a typographic quote (U+201C)`.
pub(super) fn named(c: char) -> String {
    let what = kind(c).map_or("a character", Kind::name);
    format!("{what} (U+{:04X})", u32::from(c))
}

/// A text in which invisible characters are seen, as `\u{200b}`.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_blank(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

/// The note about a text that a parser could not read, where the line of the error has such a character. `line` and
/// `column` are from 1; a column counts characters or bytes, as the parser does.
pub(crate) fn note(text: &str, line: usize, column: usize) -> Option<String> {
    // Dashes are letters of YAML, and of no account in JSON.
    let is_odd = |c: &char| !matches!(kind(*c), None | Some(Kind::Dash));
    let in_line = text.lines().nth(line.saturating_sub(1))?;
    let index = column.saturating_sub(1);
    let at_byte = in_line.get(index..).and_then(|rest| rest.chars().next());
    let at_place = [at_byte, in_line.chars().nth(index)];
    let mut at_place = at_place.into_iter().flatten();
    let found = at_place
        .find(is_odd)
        .or_else(|| in_line.chars().find(is_odd))?;
    let typed = match kind(found) {
        Some(Kind::Quote) => "type `\"`",
        Some(Kind::NoBreakSpace | Kind::Space) => "type a space",
        _ => "remove it",
    };
    let shown = visible(found.encode_utf8(&mut [0; 4]));
    Some(format!(
        "line {line} has {} `{shown}`, as copied text has: {typed}",
        named(found)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_cannot_be_read_is_explained_by_its_characters() {
        for (text, line, column, said) in [
            ("{“a”: 1}", 1, 2, Some("typographic quote (U+201C)")),
            ("{\n \"a\": «b»}", 2, 7, Some("typographic quote (U+00AB)")),
            // The place is the end of a text that was never closed.
            ("{\"a”: 1}", 1, 10, Some("typographic quote (U+201D)")),
            (
                "a:\n\u{a0}b: 1",
                2,
                1,
                Some("(U+00A0) `\\u{a0}`, as copied text has: type a space"),
            ),
            ("{\u{200b}}", 1, 2, Some("(U+200B) `\\u{200b}`")),
            ("{a: –}", 1, 5, None),
            ("{a}", 1, 2, None),
            ("", 7, 1, None),
        ] {
            let note = note(text, line, column);
            match said {
                Some(said) => assert!(
                    note.as_ref().is_some_and(|it| it.contains(said)),
                    "{note:?}"
                ),
                None => assert_eq!(note, None, "{text}"),
            }
        }
    }
}
