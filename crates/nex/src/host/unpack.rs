//! `nex unpack-server FILE`: the short-lived child that unpacks the nats-server which a release
//! binary carries, so that the memory which that takes is not the node's.

use std::{path::Path, process::ExitCode};

use nex_server::{UNPACK_ARG, embedded};

use super::nexlets;
use crate::{
    environment::Environment,
    error::{CommandError, Kind},
    print::Printer,
};

/// Unpacks, if that is what this process was started for.
pub(crate) fn run(env: &Environment) -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != UNPACK_ARG {
        return None;
    }
    let destination = args.next()?;
    let unpacked = nexlets::own_executable().and_then(|executable| {
        embedded::unpack_main(&executable, Path::new(&destination))
            .map_err(|error| CommandError::from_error(Kind::Failed, &error))
    });
    Some(match unpacked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Printer::new(false, env).error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    })
}
