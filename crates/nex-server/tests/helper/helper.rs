//! The part of `nex` that the tests of `nex-server` start.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [nex_process::SUPERVISE_ARG] => nex_process::supervisor::main(),
        [nex_server::UNPACK_ARG, dest] => unpack(Path::new(dest)),
        _ => ExitCode::from(64),
    }
}

fn unpack(dest: &Path) -> ExitCode {
    let exe = std::env::current_exe().expect("a process knows its executable");
    let Err(error) = nex_server::embedded::unpack_main(&exe, dest) else {
        return ExitCode::SUCCESS;
    };
    std::io::Write::write_all(&mut std::io::stderr(), format!("{error}\n").as_bytes()).ok();
    ExitCode::FAILURE
}
