//! Characters that slides, documents and chats put in the place of those that were typed: dashes, quotes, spaces
//! and invisible ones. A shell takes them for letters.
//!
//! A flag with such a character is refused, and so is a value that is a name, an address or a file, where the
//! character stands at its end or cannot be seen. Payloads, descriptions, passwords and values of variables may have
//! any character. An error of another kind gets a hint where such a character may be its reason.

mod characters;

use std::{
    any::TypeId,
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Arg, Command};

use crate::error::{CommandError, Kind};
pub(crate) use characters::note;
use characters::{is_apostrophe, is_blank, is_dash, is_stray, kind, named, visible};

/// Upper bound of the characters of an argument that are shown.
const SHOWN_CHARS: usize = 60;

/// Flags whose values are text for people, or are compared with what somebody else stores.
const FREE: [&str; 4] = [
    "description",
    "nats.conn-name",
    "nats.password",
    "nats.user",
];
/// Flags whose values are JSON: only what stands around it is looked at.
const JSON: [&str; 2] = ["agents", "start-request"];
/// Flags whose values are not shown.
const SECRET: [&str; 7] = [
    "issuer-nkey-seed",
    "issuer-signing-key",
    "nats.jwt",
    "nats.password",
    "nats.seed",
    "node-seed",
    "node-xkey-seed",
];

/// A flag, as far as its value is looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Flag {
    takes_value: bool,
    is_free: bool,
    is_json: bool,
    is_path: bool,
    is_secret: bool,
}

impl Flag {
    fn of(arg: &Arg) -> Self {
        let is_in = |list: &[&str]| arg.get_long().is_some_and(|long| list.contains(&long));
        Self {
            takes_value: arg.get_action().takes_values(),
            is_free: is_in(&FREE),
            is_json: is_in(&JSON),
            is_path: arg.get_value_parser().type_id() == TypeId::of::<PathBuf>(),
            is_secret: is_in(&SECRET),
        }
    }

    /// The first character of a value that was hardly typed; none where the value may be meant.
    fn oddity(self, value: &str) -> Option<char> {
        if self.is_free || (self.is_path && Path::new(value).exists()) {
            return None;
        }
        if self.is_json {
            return oddity_at_ends(value);
        }
        // A tag has a value of its own.
        let at_ends = value.split('=').find_map(oddity_at_ends);
        at_ends.or_else(|| value.chars().find(|c| is_stray(*c)))
    }
}

/// A quote or blank with which a text begins or ends. An apostrophe may end a word.
fn oddity_at_ends(text: &str) -> Option<char> {
    let is_quote = |c: &char| kind(*c) == Some(characters::Kind::Quote);
    let first = text.chars().next().filter(|c| is_quote(c) || is_blank(*c));
    let is_end = |c: &char| is_blank(*c) || (is_quote(c) && !is_apostrophe(*c));
    first.or_else(|| text.chars().next_back().filter(is_end))
}

/// Refuses arguments that are flags but for such characters, and values of flags around which a shell leaves them.
/// Taken as they are they would be payloads, files, variables or names.
///
/// # Errors
/// Shows the flag or the value as it is typed.
pub(crate) fn check(command: &Command, args: &[OsString]) -> Result<(), CommandError> {
    let mut flags = BTreeMap::new();
    collect(command, &mut flags);
    let mut before: Option<(&str, Flag)> = None;
    for arg in args.iter().skip(1).take_while(|arg| *arg != "--") {
        let Some(arg) = arg.to_str() else { continue };
        if let Some((name, flag)) = before.take() {
            check_value(name, flag, arg)?;
            if !flag.is_free {
                check_flag(arg, &flags)?;
            }
            continue;
        }
        let (name, value) = split(arg, &flags);
        match flags.get(name) {
            Some(flag) => match value {
                Some(value) => check_value(name, *flag, value)?,
                None => before = flag.takes_value.then_some((name, *flag)),
            },
            None => check_flag(arg, &flags)?,
        }
    }
    Ok(())
}

/// The name of a flag and the value behind it in the same argument: `--name=value`, `-nvalue`.
fn split<'a>(arg: &'a str, flags: &BTreeMap<String, Flag>) -> (&'a str, Option<&'a str>) {
    if let Some((name, value)) = arg.split_once('=') {
        return (name, Some(value));
    }
    let end = arg.char_indices().nth(2).map(|(end, _)| end);
    match end.map(|end| arg.split_at(end)) {
        Some((short, value)) if flags.get(short).is_some_and(|flag| flag.takes_value) => {
            (short, Some(value))
        }
        _ => (arg, None),
    }
}

fn check_value(name: &str, flag: Flag, value: &str) -> Result<(), CommandError> {
    let Some(odd) = flag.oddity(value) else {
        return Ok(());
    };
    let what = match flag.is_secret {
        true => format!("the value of `{name}`"),
        false => format!("`{}`", shortened(value)),
    };
    let why = match kind(odd) {
        Some(characters::Kind::Quote) => "which no shell takes off",
        _ => "which is a part of it",
    };
    let told = CommandError::usage(format!("{what} has {}, {why}", named(odd)));
    Err(match flag.is_secret {
        true => told.hint("type it anew, with the quotes of a keyboard"),
        false => told.hint(format!("type it anew: `'{}'`", shortened(&bare(value)))),
    })
}

/// Refuses an argument that would be a flag with the characters of a keyboard.
fn check_flag(arg: &str, flags: &BTreeMap<String, Flag>) -> Result<(), CommandError> {
    let starts = arg.trim_start_matches(|c: char| is_blank(c) && !is_dash(c));
    if !starts.starts_with(|c: char| c == '-' || is_dash(c)) {
        return Ok(());
    }
    // What stands behind the name: a value, or one that a blank keeps in the same argument.
    let text = starts.trim_end_matches(is_blank);
    let is_end = |c: char| c == '=' || (is_blank(c) && !is_stray(c));
    let (name, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
    let Some(odd) = arg.chars().find(|c| is_dash(*c) || is_blank(*c)) else {
        return Ok(());
    };
    // A soft hyphen stands for a hyphen, or where a word may be broken.
    let soft = |c: char| kind(c) == Some(characters::Kind::SoftHyphen);
    let whole: String = name.chars().filter(|c| !soft(*c)).collect();
    let flag = [typed(name), typed(&whole)];
    let Some(flag) = flag.into_iter().find(|flag| flags.contains_key(flag)) else {
        return Ok(());
    };
    let rest = rest.replace(is_blank, " ");
    let place = match is_dash(odd) && !soft(odd) {
        true => " where a flag has `-`",
        false => "",
    };
    Err(
        CommandError::usage(format!("`{}` has {}{place}", shortened(arg), named(odd))).hint(
            format!("type it anew: `{}`", shortened(&format!("{flag}{rest}"))),
        ),
    )
}

/// A flag with the dashes of a keyboard. One long dash often stands for two short ones.
fn typed(name: &str) -> String {
    let name: String = name
        .chars()
        .filter(|c| is_dash(*c) || !is_blank(*c))
        .collect();
    let bare = name.trim_start_matches(|c| c == '-' || is_dash(c));
    let bare: String = bare
        .chars()
        .map(|c| if is_dash(c) { '-' } else { c })
        .collect();
    let dashes = if bare.chars().count() == 1 { "-" } else { "--" };
    format!("{dashes}{bare}")
}

/// A value without its quotes and blanks.
fn bare(value: &str) -> String {
    let is_quote = |c: char| kind(c) == Some(characters::Kind::Quote);
    let parts = value
        .split('=')
        .map(|part| part.trim_matches(|c: char| is_quote(c) || is_blank(c)));
    let bare = parts.collect::<Vec<_>>().join("=");
    bare.chars().filter(|c| !is_stray(*c)).collect()
}

/// All flags of a command and those below it, as they are typed.
fn collect(command: &Command, flags: &mut BTreeMap<String, Flag>) {
    for arg in command.get_arguments() {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        let longs = arg.get_long().into_iter().chain(aliases);
        let names = longs.map(|long| format!("--{long}"));
        let names = names.chain(arg.get_short().map(|short| format!("-{short}")));
        let flag = Flag::of(arg);
        flags.extend(names.map(|name| (name, flag)));
    }
    for inner in command.get_subcommands() {
        collect(inner, flags);
    }
}

/// The character of a variable's name that was hardly typed, in words.
pub(crate) fn in_variable(name: &str) -> Option<String> {
    let is_odd = |c: &char| !matches!(kind(*c), None | Some(characters::Kind::Dash));
    let dash = name.chars().next().filter(|c| is_dash(*c));
    dash.or_else(|| name.chars().find(is_odd)).map(named)
}

/// The hint about a text that a person wrote, where it has such a character. Dashes are letters of many names.
pub(crate) fn hint_about(text: &str) -> Option<String> {
    let is_odd = |c: &char| !matches!(kind(*c), None | Some(characters::Kind::Dash));
    let odd = text.chars().find(is_odd)?;
    Some(format!(
        "there is {} in it, as copied text has; type it anew",
        named(odd)
    ))
}

/// Returns `true` for a text that begins with a typographic quote, as names never do.
pub(crate) fn is_quoted(text: &str) -> bool {
    let first = text.chars().next().and_then(kind);
    first == Some(characters::Kind::Quote)
}

/// Adds to an error that an argument, or the text of the error, has such a character, where the error may be due to
/// that.
pub(crate) fn explain(error: CommandError, args: &[OsString]) -> CommandError {
    let text = error.text();
    if text.contains("type it anew") || text.contains("as copied text has") {
        return error;
    }
    let is_usage = error.kind() == Kind::Usage;
    let mut before = "";
    let found = args.iter().skip(1).find_map(|arg| {
        let arg = arg.to_str()?;
        let flag = std::mem::replace(&mut before, arg);
        let odd = arg.chars().find(|c| kind(*c).is_some())?;
        let value = arg.split_once('=').map_or(arg, |(_, value)| value);
        let blamed = is_usage || error.is_refused() || text.contains(value);
        let own = arg.split('=').next().unwrap_or_default();
        let is_value_of = |secret: &&str| {
            let names = [Some(*secret), secret.strip_prefix("nats.")];
            [own, flag].iter().any(|typed| {
                let typed = typed.trim_start_matches('-');
                names.contains(&Some(typed))
            })
        };
        let shown = match SECRET.into_iter().find(is_value_of) {
            Some(secret) => format!("the value of `--{secret}`"),
            None => format!("`{}`", shortened(arg)),
        };
        blamed.then(|| {
            format!(
                "{shown} has {}, as copied text has; type it anew",
                named(odd)
            )
        })
    });
    // Values of variables and files stand in the text alone.
    let in_text = || {
        let is_about = is_usage || matches!(error.kind(), Kind::NotFound | Kind::Incomplete);
        is_about.then(|| hint_about(&error.without_hints()))?
    };
    match found.or_else(in_text) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn shortened(arg: &str) -> String {
    let shown = visible(arg);
    match shown.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
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
            ("\u{2e3a}json", "--json"),
            ("ーーtrigger-subject=a", "--trigger-subject=a"),
            ("˗˗json", "--json"),
            ("-\u{2e3b}json", "--json"),
            ("ｰs", "-s"),
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
    fn a_flag_with_what_cannot_be_seen_is_shown_as_it_is_typed() {
        for (arg, flag, what) in [
            (
                "--trigger\u{ad}_subject=a",
                "--trigger_subject=a",
                "a soft hyphen (U+00AD)",
            ),
            (
                "--trigger\u{ad}subject=a",
                "--trigger-subject=a",
                "a soft hyphen (U+00AD)",
            ),
            ("\u{ad}\u{ad}json", "--json", "a soft hyphen (U+00AD)"),
            (
                "--json\u{200b}",
                "--json",
                "an invisible character (U+200B)",
            ),
            (
                "\u{feff}--json",
                "--json",
                "an invisible character (U+FEFF)",
            ),
            ("\u{a0}--json", "--json", "a non-breaking space (U+00A0)"),
            ("--json\u{a0}", "--json", "a non-breaking space (U+00A0)"),
            (
                "--name\u{a0}web",
                "--name web",
                "a non-breaking space (U+00A0)",
            ),
            (
                "-–name\u{3000}web",
                "--name web",
                "a typographic dash (U+2013)",
            ),
        ] {
            let text = refused(&["devrun", "./echo.js", arg]).expect(arg);
            assert!(
                text.contains(&format!("hint: type it anew: `{flag}`")),
                "{text}"
            );
            assert!(text.contains(what), "{text}");
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
            (&["node", "list", "-s“nats://a:1”"], "'nats://a:1'"),
            (&["devrun", "./e.js", "--name", "“echo"], "'echo'"),
            (&["devrun", "./e.js", "--name=echo”"], "'echo'"),
            (&["devrun", "./e.js", "--name=«echo»"], "'echo'"),
            (&["devrun", "./e.js", "--name=‹echo›"], "'echo'"),
            (&["devrun", "./e.js", "--name=»echo«"], "'echo'"),
            (&["devrun", "./e.js", "--name=′echo′"], "'echo'"),
            (&["devrun", "./e.js", "--name=″echo″"], "'echo'"),
            (&["devrun", "./e.js", "--name=‵echo"], "'echo'"),
            (&["devrun", "./e.js", "--name=echo\u{200b}"], "'echo'"),
            (&["devrun", "./e.js", "--name", "\u{feff}echo"], "'echo'"),
            (&["devrun", "./e.js", "--name", "echo\u{a0}"], "'echo'"),
            (&["devrun", "./e.js", "--name=ec\u{ad}ho"], "'echo'"),
            (&["devrun", "./e.js", "--tags=“a=b”"], "'a=b'"),
            (&["devrun", "./e.js", "--tags", "a=“b”"], "'a=b'"),
            (&["node", "list", "--creds", "“./k.creds”"], "'./k.creds'"),
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
            &["devrun", "./web", "--description", "“web”"],
            &["devrun", "./web", "--description=«web\u{a0}»"],
            &["devrun", "./web", "--name=Jamesʼ"],
            &["devrun", "./web", "--name=l’été"],
            &["devrun", "./web", "--name=サーバー"],
            &["devrun", "./web", "--name=می\u{200c}خواهم"],
            &["devrun", "./web", "A=‘x’", "B=\u{200b}", "C=–json"],
            &[
                "workload",
                "start",
                "--start-request",
                "{\"a\":\"\u{200b}“b”\"}",
            ],
            &[
                "node",
                "list",
                "--nats.user=«ann»",
                "--nats.password",
                "“s3”",
            ],
            &["req", "echo", "hello\u{200b}"],
            &["req", "echo", "«--json»"],
        ] {
            assert_eq!(refused(line), None, "{line:?}");
        }
        let seed = refused(&["node", "list", "--nats.seed=“SUSECRET”"]).unwrap();
        assert!(
            !seed.contains("SUSECRET") && seed.contains("`--nats.seed`"),
            "{seed}"
        );
    }

    #[test]
    fn a_file_may_be_named_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("“notes”");
        let path = path.to_str().unwrap();
        let line = ["invoke", "echo", "--file", path];
        assert!(refused(&line).is_some());
        std::fs::write(path, "x").unwrap();
        assert_eq!(refused(&line), None);
    }

    #[test]
    fn a_variable_with_such_a_name_is_refused() {
        for (name, what) in [
            ("“A", Some("a typographic quote (U+201C)")),
            ("«A", Some("a typographic quote (U+00AB)")),
            ("A\u{a0}", Some("a non-breaking space (U+00A0)")),
            ("\u{200b}A", Some("an invisible character (U+200B)")),
            ("–port", Some("a typographic dash (U+2013)")),
            ("a–b", None),
            ("ä.b", None),
        ] {
            assert_eq!(in_variable(name).as_deref(), what, "{name}");
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
        let named = || CommandError::not_found("workload not found: `web\u{200b}`");
        let line = ["workload", "stop", "web\u{200b}"];
        assert!(hint(named(), &line).contains("`web\\u{200b}` has an invisible"));
        let of_variable = CommandError::usage("invalid URL `“nats://a”`");
        assert!(hint(of_variable, &["node", "list"]).contains("(U+201C) in it"));
        let refused = CommandError::failed("authorization violation").refused();
        let text = hint(refused, &["node", "list", "--nats.password", "“s3”"]);
        assert!(
            text.contains("`--nats.password` has a typo") && !text.contains("s3"),
            "{text}"
        );
        let other = hint(CommandError::failed("no"), &["req", "echo", "“hi”"]);
        assert_eq!(other, "error: no");
        assert_eq!(hint(usage(), &["plain"]), "error: unexpected argument");
    }
}
