//! Exchanges with peers of another make: each test says how many it had, and `cargo xtask test` adds
//! them up at the end.

use std::io::Write as _;

use crate::skip::note;

/// Environment variable naming the file to which they are appended: `<test>: <count>`, one a line.
///
/// Cargo hides the output of tests that pass.
pub const EXCHANGES_FILE: &str = "NEX_TEST_EXCHANGES";

/// Says how many exchanges with a Go peer the running test had.
pub fn exchanges(count: u64) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed test");
    // Not by a macro: of a test that passes, cargo hides what those print.
    let mut stderr = std::io::stderr();
    let line = format!("INTEROP: {test}: {count} exchanges with a Go peer\n");
    stderr.write_all(line.as_bytes()).ok();
    note(EXCHANGES_FILE, &format!("{test}: {count}\n"));
}
