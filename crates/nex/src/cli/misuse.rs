//! What the parser says of a command line that it cannot use, in the form of our other errors.

use clap::error::ErrorKind;

use crate::error::CommandError;

/// A command line that cannot be used, as an error with hints.
pub(crate) fn explain(error: &clap::Error) -> CommandError {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return CommandError::usage("the command line says not enough")
            .hint("`nex --help` lists the commands");
    }
    let text = error.render().to_string();
    let mut blocks = text.split("\n\n").map(str::trim);
    let first = blocks.next().unwrap_or_default();
    let (message, values) = message(first.strip_prefix("error: ").unwrap_or(first));
    let mut told = CommandError::usage(message);
    told = values.into_iter().fold(told, CommandError::hint);
    for block in blocks {
        if let Some(usage) = block.strip_prefix("Usage: ") {
            told = told
                .hint(format!("usage: `{}`", words(usage).join(" ")))
                .hint(format!("`{} --help` says more", command(usage)));
        } else {
            let tips = block
                .lines()
                .filter_map(|line| line.trim().strip_prefix("tip: "));
            told = tips.map(quoted).fold(told, CommandError::hint);
        }
    }
    if told.has_hints() {
        return told;
    }
    told.hint("`--help` says what it takes")
}

/// The first lines as one, and what they list as hints.
fn message(block: &str) -> (String, Vec<String>) {
    let mut values = Vec::new();
    let mut message = String::new();
    for line in block.lines().map(str::trim) {
        if let Some(listed) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            values.push(listed.to_owned());
        } else if message.is_empty() {
            message = quoted(line);
        } else if message.ends_with(':') {
            message = format!("{message} `{line}`");
        } else {
            message = format!("{message}, `{line}`");
        }
    }
    (message, values)
}

/// A text whose literals are in backticks, as in all our messages.
fn quoted(text: &str) -> String {
    let mut inside = false;
    let mut before = ' ';
    let mut quoted = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        let opens = !inside && !before.is_alphanumeric();
        let closes = inside && rest.peek().is_none_or(|next| !next.is_alphanumeric());
        if letter == '\'' && (opens || closes) {
            inside = !inside;
            quoted.push('`');
        } else {
            quoted.push(letter);
        }
        before = letter;
    }
    quoted
}

fn words(usage: &str) -> Vec<&str> {
    usage.split_whitespace().collect()
}

/// The command that a usage is of: the words before flags and arguments.
fn command(usage: &str) -> String {
    let words = words(usage).into_iter();
    let command = words.take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
    command.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn told(line: &str) -> String {
        let args = std::iter::once("nex").chain(line.split(' '));
        let error = Cli::try_parse_from(args).unwrap_err();
        explain(&error).text()
    }

    #[test]
    fn an_error_says_what_to_type_instead() {
        assert_eq!(
            told("workload list --typ native"),
            "\
error: unexpected argument `--typ` found

hint: a similar argument exists: `--type`
hint: usage: `nex workload list --type <TYPE>`
hint: `nex workload list --help` says more"
        );
    }

    #[test]
    fn each_kind_of_misuse_has_the_same_form() {
        for (line, wanted) in [
            (
                "workload stop",
                "error: the following required arguments were not provided: `<ID|NAME>`",
            ),
            ("worklod list", "error: unrecognized subcommand `worklod`"),
            (
                "logs x --since 5",
                "error: invalid value `5` for `--since <DURATION>`: ",
            ),
            ("-l loud node list", "hint: possible values: "),
            ("node list --nats.nkey U", "`--nats.seed <SEED>`"),
            (
                "workload start -f a --start-request {}",
                "the argument `--nexfile <FILE>` cannot be used with `--start-request <JSON>`",
            ),
            ("workload", "hint: `nex --help` lists the commands"),
        ] {
            let told = told(line);
            assert!(told.starts_with("error: "), "{told}");
            assert!(told.contains("\nhint: "), "{told}");
            assert!(told.contains(wanted), "{told}");
            assert!(!told.contains("Usage:") && !told.contains("tip:"), "{told}");
        }
    }

    #[test]
    fn an_apostrophe_is_no_quote() {
        assert_eq!(
            quoted("don't use '-x' or 'it's'"),
            "don't use `-x` or `it's`"
        );
    }
}
