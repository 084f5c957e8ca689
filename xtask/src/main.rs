//! `cargo xtask`: the project's own chores. What CI runs is exactly what a person can run here.

mod arrows;
mod bench;
mod ci;
mod demo;
mod dist;
mod fuzz;
mod setup;
mod shell;
mod test;
mod wasi;
mod workspace;

use anyhow::bail;
use std::{env, process::ExitCode};
use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask <command>

  setup              fetch the pinned nats-server, put it where nex finds it, and see to a compiler for WASI
  test [ARGS]        build what the system tests drive, then cargo test --workspace ARGS
  demo [--release]   start nex in a temporary folder, deploy a function and a service, call both
  bench [ARGS]       measure the release build; ARGS name groups
  fuzz               build the fuzz targets, and have each read the golden messages
  ci                 everything that must hold before a change is merged
  dist               a stripped release binary with nats-server inside: target/dist/nex";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let command = args.next();
    let rest: Vec<String> = args.collect();
    let rest_words: Vec<&str> = rest.iter().map(String::as_str).collect();
    let workspace = Workspace::find()?;
    match (command.as_deref(), rest_words.as_slice()) {
        (Some("setup"), []) => setup::run(&workspace),
        (Some("test"), args) => test::run(&workspace, args),
        (Some("demo"), []) => demo::run(&workspace, false),
        (Some("demo"), ["--release"]) => demo::run(&workspace, true),
        (Some("bench"), args) => bench::run(&workspace, args),
        (Some("fuzz"), []) => fuzz::run(&workspace),
        (Some("ci"), []) => ci::run(&workspace),
        (Some("dist"), []) => dist::run(&workspace),
        (None | Some("help" | "--help" | "-h"), _) => {
            shell::say(USAGE);
            Ok(())
        }
        (Some(command), _) => {
            bail!(
                "`{}` is not a command here\n\n{USAGE}",
                [&[command], &*rest_words].concat().join(" ")
            )
        }
    }
}
