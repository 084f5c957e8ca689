//! Skipping loudly: a test that cannot run here says so, and `cargo xtask test` repeats it at the end.

use std::io::Write as _;

/// Environment variable naming the file to which skips are appended, one a line.
///
/// Cargo hides the output of tests that pass, and a skipped test passes.
pub const SKIPS_FILE: &str = "NEX_TEST_SKIPS";

/// Says that the running test is skipped and why; the test then returns.
///
/// ```no_run
/// # fn test() {
/// let Some(seeds) = nex_testkit::seeds() else {
///     return nex_testkit::skip("the folder of the seeds is not here");
/// };
/// # }
/// ```
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!(
        "SKIPPED: {}: {reason}\n",
        thread.name().unwrap_or("unnamed test")
    );
    let mut stderr = std::io::stderr();
    stderr.write_all(line.as_bytes()).ok();
    note(SKIPS_FILE, &line);
}

/// Appends a line to the file that a variable names, if it does.
pub(crate) fn note(variable: &str, line: &str) {
    let Some(path) = std::env::var_os(variable) else {
        return;
    };
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path);
    // One write per line, so that lines of tests in parallel do not mix.
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        panic!("failed to note `{line}` in {}: {error}", path.display());
    }
}
