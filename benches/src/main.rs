//! Measurements of the release build, each beside a floor taken in the same run.
//!
//! `cargo xtask bench [GROUP…]` builds what is needed and runs this. Without a group, all run.

mod control;
mod density;
mod functions;
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
        [] => start::run()
            .and_then(|()| control::run(false))
            .and_then(|()| functions::run(Options::default()))
            .and_then(|()| density::run(Options::default())),
        ["start"] => start::run(),
        ["control"] => control::run(false),
        ["control", "--quick"] => control::run(true),
        ["functions", options @ ..] => functions::run(Options::parse(options)?),
        ["density", options @ ..] => density::run(Options::parse(options)?),
        [start::BARE_CLIENT, url] => start::bare_client(url).context("the bare client failed"),
        [control::SERVE, rest @ ..] => control::serve(rest),
        [group, ..] => bail!(
            "`{group}` is not a group of measurements; there are: start, control, functions, density"
        ),
    }
}

/// What may be said to a group.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    /// Shorter, with nothing promised of the result.
    quick: bool,
    /// The result as JSON.
    json: bool,
}

impl Options {
    fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        for word in words {
            match *word {
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                other => bail!("`{other}` is not an option here: want `--quick` or `--json`"),
            }
        }
        Ok(options)
    }
}
