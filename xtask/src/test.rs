//! All tests, and what they need first.

use crate::{
    setup,
    shell::{cargo, run as run_shown, say},
    workspace::Workspace,
};
use std::fs;

/// Runs every test of the workspace, documentation tests too.
pub(crate) fn run(workspace: &Workspace, args: &[&str]) -> anyhow::Result<()> {
    setup::run(workspace)?;
    // System tests drive the real programs, which `cargo test` alone would not build.
    run_shown(cargo(workspace).args(["build", "--workspace", "--bins"]))?;

    let scratch = tempfile::tempdir()?;
    let skips = scratch.path().join("skips");
    let exchanges = scratch.path().join("exchanges");
    let tested = run_shown(
        cargo(workspace)
            .args(["test", "--workspace"])
            .args(args)
            .env(nex_testkit::SKIPS_FILE, &skips)
            .env(nex_testkit::EXCHANGES_FILE, &exchanges)
            .env("NEX_TEST_BIN_DIR", workspace.bin_dir(false)),
    );

    let skips = fs::read_to_string(&skips).unwrap_or_default();
    if !skips.is_empty() {
        say(&format!(
            "\ntests that could not run here:\n{}",
            skips.trim_end()
        ));
    }
    let exchanges = fs::read_to_string(&exchanges).unwrap_or_default();
    let (tests, count) = sum(&exchanges);
    say(&format!(
        "\nINTEROP: {count} exchanges with Go peers, in {tests} tests"
    ));
    tested
}

/// How many tests had how many exchanges with peers of another make.
fn sum(noted: &str) -> (usize, u64) {
    let counts = noted.lines().filter_map(|line| line.rsplit_once(": "));
    let counts: Vec<u64> = counts.filter_map(|(_, count)| count.parse().ok()).collect();
    (counts.len(), counts.iter().sum())
}

#[cfg(test)]
mod tests {
    #[test]
    fn exchanges_of_all_tests_are_added_up() {
        assert_eq!(super::sum(""), (0, 0));
        assert_eq!(super::sum("interop::a: 12\ninterop::b: 30\n"), (2, 42));
    }
}
