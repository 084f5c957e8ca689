//! The supervisor that the tests of `nexlet-native` start.

use std::process::ExitCode;

fn main() -> ExitCode {
    nex_process::supervisor::main()
}
