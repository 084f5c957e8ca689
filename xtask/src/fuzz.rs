//! The fuzz targets of the decoders: they are built, and read each golden message once.
//!
//! A search for new inputs takes a nightly compiler: `cargo +nightly fuzz run <target>`. What the stable
//! one makes has no coverage to be led by, and only runs the inputs that it is given.

use crate::{
    shell::{cargo, read, run as run_shown, say},
    workspace::Workspace,
};
use anyhow::Context as _;
use serde_json::Value;
use std::{fs, path::Path, process::Command};

/// Builds all targets, and has each read all messages.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let programs = workspace.bin_dir(false);
    let folder = programs.parent().context("programs are in a folder")?;
    let manifest = workspace.root().join("fuzz/Cargo.toml");
    let mut build = cargo(workspace);
    build.args(["build", "--locked", "--bins", "--manifest-path"]);
    build.arg(&manifest).arg("--target-dir").arg(folder);
    run_shown(&mut build)?;

    let scratch = tempfile::tempdir()?;
    let golden = workspace.root().join("crates/nex-protocol/golden");
    let inputs = write_inputs(&golden, scratch.path())?;
    for target in targets(&manifest)? {
        let mut each = Command::new(programs.join(&target));
        // A crash leaves its input here.
        each.current_dir(scratch.path()).args(&inputs);
        read(&mut each).with_context(|| format!("fuzz target `{target}` has failed"))?;
        say(&format!(
            "fuzz target {target}: {} messages read",
            inputs.len()
        ));
    }
    Ok(())
}

/// The names of the targets.
fn targets(manifest: &Path) -> anyhow::Result<Vec<String>> {
    let folder = manifest.with_file_name("targets");
    let mut names = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        names.push(name.context("a target has no name")?.to_owned());
    }
    names.sort();
    Ok(names)
}

/// Writes each message of the golden files, and each line of those that are text, into a file.
fn write_inputs(golden: &Path, into: &Path) -> anyhow::Result<Vec<String>> {
    let mut inputs = Vec::new();
    for file in fs::read_dir(golden)? {
        let text = fs::read_to_string(file?.path())?;
        match serde_json::from_str::<Value>(&text) {
            Ok(golden) => inputs.extend(messages(&golden)),
            Err(_) => inputs.extend(text.lines().map(ToOwned::to_owned)),
        }
    }
    let mut names = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let name = format!("input-{number}");
        fs::write(into.join(&name), input)?;
        names.push(name);
    }
    Ok(names)
}

/// The messages in a golden file: the fullest, the least, and what Go peers send.
fn messages(golden: &Value) -> Vec<String> {
    let sent = golden["go"].as_array().into_iter().flatten();
    let sent = sent.map(|one| &one["sent"]);
    let all = [&golden["full"], &golden["least"]].into_iter().chain(sent);
    let there = all.filter(|message| !message.is_null());
    there.map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_message_of_a_golden_file_is_an_input() {
        let golden = json!({"full": {"a": 1}, "least": {}, "go": [{"sent": {"a": null}}]});
        assert_eq!(messages(&golden), [r#"{"a":1}"#, "{}", r#"{"a":null}"#]);
        assert!(messages(&json!({"other": 1})).is_empty());
    }
}
