//! Characters that slides, documents and chats put in the place of those that were typed: dashes, quotes and
//! spaces. A shell takes them for letters.

use std::{collections::BTreeMap, ffi::OsString};

use clap::Command;

use crate::error::{CommandError, Kind};

/// Upper bound of the characters of an argument that are shown.
const SHOWN_CHARS: usize = 60;

/// Returns `true` for characters that look like `-`.
fn is_dash(c: char) -> bool {
    matches!(
        c,
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
    )
}

/// Names a character that is seldom meant on a command line.
fn odd(c: char) -> Option<&'static str> {
    match c {
        c if is_dash(c) => Some("a typographic dash"),
        c if is_quote(c) => Some("a typographic quote"),
        '\u{a0}' | '\u{2007}' | '\u{202f}' => Some("a non-breaking space"),
        '\u{2000}'..='\u{200a}' | '\u{3000}' => Some("a typographic space"),
        '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => Some("an invisible character"),
        _ => None,
    }
}

/// Refuses arguments that are flags but for their dashes, and values of flags in quotes that no shell takes
/// off. Taken as they are they would be payloads, files, variables or names.
///
/// # Errors
/// Shows the flag as it is typed.
pub(crate) fn check(command: &Command, args: &[OsString]) -> Result<(), CommandError> {
    let mut flags = BTreeMap::new();
    collect(command, &mut flags);
    let mut flag_before = false;
    for arg in args.iter().skip(1).take_while(|arg| *arg != "--") {
        let Some(arg) = arg.to_str() else { continue };
        let (name, value) = match arg.find('=') {
            Some(at) => arg.split_at(at),
            None => (arg, ""),
        };
        let flag = flags.get(name);
        let quoted = match flag {
            Some(_) => value.strip_prefix('=').unwrap_or_default(),
            None if flag_before => arg,
            None => "",
        };
        flag_before = flag == Some(&true) && value.is_empty();
        if let Some(bare) = unquoted(quoted) {
            return Err(CommandError::usage(format!(
                "`{}` is in typographic quotes, which no shell takes off",
                shortened(quoted)
            ))
            .hint(format!("type it anew: `'{}'`", shortened(bare))));
        }
        let Some(dash) = name.chars().find(|c| is_dash(*c)) else {
            continue;
        };
        if !name.starts_with(|c| c == '-' || is_dash(c)) {
            continue;
        }
        let flag = typed(name);
        if flags.contains_key(&flag) {
            return Err(CommandError::usage(format!(
                "`{}` has {} (U+{:04X}) where a flag has `-`",
                shortened(arg),
                "a typographic dash",
                u32::from(dash)
            ))
            .hint(format!(
                "type it anew: `{}`",
                shortened(&format!("{flag}{value}"))
            )));
        }
    }
    Ok(())
}

/// The text in typographic quotes, where a value begins and ends with such.
fn unquoted(value: &str) -> Option<&str> {
    value.strip_prefix(is_quote)?.strip_suffix(is_quote)
}

fn is_quote(c: char) -> bool {
    matches!(c, '\u{2018}'..='\u{201f}')
}

/// A flag with the dashes of a keyboard. One long dash often stands for two short ones.
fn typed(name: &str) -> String {
    let bare = name.trim_start_matches(|c| c == '-' || is_dash(c));
    let bare: String = bare
        .chars()
        .map(|c| if is_dash(c) { '-' } else { c })
        .collect();
    let dashes = if bare.chars().count() == 1 { "-" } else { "--" };
    format!("{dashes}{bare}")
}

/// All flags of a command and those below it, as they are typed, each with `true` where it takes a value.
fn collect(command: &Command, flags: &mut BTreeMap<String, bool>) {
    for arg in command.get_arguments() {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        let longs = arg.get_long().into_iter().chain(aliases);
        let names = longs.map(|long| format!("--{long}"));
        let names = names.chain(arg.get_short().map(|short| format!("-{short}")));
        let takes_value = arg.get_action().takes_values();
        flags.extend(names.map(|name| (name, takes_value)));
    }
    for inner in command.get_subcommands() {
        collect(inner, flags);
    }
}

/// Adds to an error that an argument has such a character, where the error may be due to that.
pub(crate) fn explain(error: CommandError, args: &[OsString]) -> CommandError {
    let text = error.text();
    if text.contains("type it anew") {
        return error;
    }
    let found = args.iter().skip(1).find_map(|arg| {
        let arg = arg.to_str()?;
        let (c, what) = arg.chars().find_map(|c| Some((c, odd(c)?)))?;
        let blamed = error.kind() == Kind::Usage || text.contains(arg);
        blamed.then(|| {
            format!(
                "`{}` has {what} (U+{:04X}), as copied text has; type it anew",
                shortened(arg),
                u32::from(c)
            )
        })
    });
    match found {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn shortened(arg: &str) -> String {
    match arg.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &arg[..end]),
        None => arg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn args(line: &[&str]) -> Vec<OsString> {
        let line = ["nex"].iter().chain(line);
        line.map(OsString::from).collect()
    }

    fn refused(line: &[&str]) -> Option<String> {
        let mut command = Cli::command();
        command.build();
        let error = check(&command, &args(line)).err()?;
        Some(error.text())
    }

    #[test]
    fn a_flag_with_a_typographic_dash_is_shown_as_it_is_typed() {
        for (arg, flag) in [
            ("–trigger_subject=echo", "--trigger_subject=echo"),
            ("—trigger-subject=echo", "--trigger-subject=echo"),
            ("−−trigger-subject", "--trigger-subject"),
            ("-–trigger‑subject", "--trigger-subject"),
            ("--trigger–subject=a–b", "--trigger-subject=a–b"),
            ("–f", "-f"),
            ("–s", "-s"),
            ("—nats.creds‐file", "--nats.creds-file"),
            ("–json", "--json"),
        ] {
            let text = refused(&["devrun", "./echo.js", arg]).expect(arg);
            assert!(
                text.contains(&format!("hint: type it anew: `{flag}`")),
                "{text}"
            );
            assert!(text.contains("typographic dash (U+"), "{text}");
        }
    }

    #[test]
    fn a_value_in_typographic_quotes_is_refused() {
        for (line, typed) in [
            (
                &["devrun", "./e.js", "--trigger_subject=“echo”"][..],
                "'echo'",
            ),
            (&["devrun", "./e.js", "--name", "‘echo’"], "'echo'"),
            (&["workload", "start", "--start-request", "“{}”"], "'{}'"),
            (&["node", "list", "-s", "„nats://a:1“"], "'nats://a:1'"),
        ] {
            let text = refused(line).expect("refused");
            assert!(
                text.contains(&format!("hint: type it anew: `{typed}`")),
                "{text}"
            );
        }
        for line in [
            &["req", "echo", "“hi”"][..],
            &["devrun", "./web", "A=“x”"],
            &["req", "echo", "--headers", "“hi”"],
            &["req", "echo", "-s", "a", "“hi”"],
            &["devrun", "./web", "--description=the “web”"],
        ] {
            assert_eq!(refused(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_is_no_flag_may_have_any_dash() {
        for line in [
            &["req", "echo", "– hello"][..],
            &["req", "echo", "—"],
            &["req", "echo", "–5"],
            &["devrun", "./web", "--", "–json"],
            &["devrun", "./web", "A=–json"],
            &["devrun", "./a–b.js"],
        ] {
            assert_eq!(refused(line), None, "{line:?}");
        }
    }

    #[test]
    fn an_error_about_copied_text_says_so() {
        let hint = |error: CommandError, line: &[&str]| explain(error, &args(line)).text();
        let usage = || CommandError::usage("unexpected argument");
        for (arg, what) in [
            ("“hello", "a typographic quote (U+201C)"),
            ("nex!”", "a typographic quote (U+201D)"),
            ("list\u{a0}", "a non-breaking space (U+00A0)"),
            ("–nowhere", "a typographic dash (U+2013)"),
            ("\u{200b}list", "an invisible character (U+200B)"),
        ] {
            let text = hint(usage(), &["workload", arg]);
            assert!(text.contains(what), "{text}");
        }
        let file = "./echo.js\u{a0}--type";
        let unread = || CommandError::failed(format!("failed to read `{file}`"));
        assert!(hint(unread(), &["devrun", file]).contains("non-breaking"));
        let other = hint(CommandError::failed("no"), &["req", "echo", "“hi”"]);
        assert_eq!(other, "error: no");
        assert_eq!(hint(usage(), &["plain"]), "error: unexpected argument");
    }
}
