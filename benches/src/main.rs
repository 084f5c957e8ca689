//! Measurements of the release build, each beside a floor taken in the same run.
//!
//! `cargo xtask bench [GROUP…]` builds what is needed and runs this. Without a group, all run.

mod control;
mod start;
mod table;

use anyhow::{Context as _, bail};
use std::{env, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            table::print_error(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => start::run().and_then(|()| control::run(false)),
        ["start"] => start::run(),
        ["control"] => control::run(false),
        ["control", "--quick"] => control::run(true),
        [start::BARE_CLIENT, url] => start::bare_client(url).context("the bare client failed"),
        [control::SERVE, rest @ ..] => control::serve(rest),
        [group, ..] => bail!("`{group}` is not a group of measurements; there are: start, control"),
    }
}
