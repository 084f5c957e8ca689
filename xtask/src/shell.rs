//! Running commands in the open: each is shown before it runs, and a failure names it.

use crate::workspace::Workspace;
use anyhow::{Context as _, bail};
use std::{
    env,
    process::{Command, Stdio},
};

/// Prints a line of the narration.
#[expect(
    clippy::print_stdout,
    reason = "xtask talks to the person who typed it"
)]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Prints a line of complaint.
#[expect(
    clippy::print_stderr,
    reason = "xtask talks to the person who typed it"
)]
pub(crate) fn complain(line: &str) {
    eprintln!("{line}");
}

/// The cargo that runs us, in the root of the workspace.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace.root());
    command
}

/// Shows a command, runs it with our own streams, and fails unless it exits with 0.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = show(command);
    say(&format!("$ {shown}"));
    let status = command
        .status()
        .with_context(|| format!("failed to start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a command in silence and returns its standard output; a failure shows its standard error.
pub(crate) fn read(command: &mut Command) -> anyhow::Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to start `{shown}`"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{shown}` ended with {}:\n{}",
            output.status,
            stderr.trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one would type it; the program by its name alone.
pub(crate) fn show(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    let words: Vec<_> = words.map(|word| quote(&word.to_string_lossy())).collect();
    words.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/nex");
        command.args(["req", "greet", "hello nex!", "it's", ""]);

        assert_eq!(show(&command), r"nex req greet 'hello nex!' 'it'\''s' ''");
    }

    #[test]
    fn a_failure_names_the_command_and_shows_its_complaint() {
        let error = read(Command::new("sh").args(["-c", "echo oh no >&2; exit 3"])).unwrap_err();

        let text = error.to_string();
        assert!(
            text.contains("sh -c") && text.contains("oh no") && text.contains('3'),
            "{text}"
        );
    }
}
