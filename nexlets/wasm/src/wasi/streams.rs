//! Reading the payload, writing the result and the log.

use wasmtime::{Caller, Linker};

use super::{
    Errno, MODULE, Stop, Stream,
    memory::{View, part_count},
    serve, stream,
};
use crate::guest::Guest;

/// How much of a write to the log is taken at a time. The guest offers the rest again, and looks at
/// its deadline in between.
const LOG_BYTES_AT_A_TIME: usize = 64 * 1024;

/// What may be done with any stream: poll it, ask for its state, set its flags.
const RIGHTS: u64 = 1 << 27 | 1 << 21 | 1 << 3;
const RIGHT_TO_READ: u64 = 1 << 1;
const RIGHT_TO_WRITE: u64 = 1 << 6;
/// The size of the state of a stream in memory.
const FDSTAT_BYTES: i32 = 24;
/// The size of the state of a file in memory.
const FILESTAT_BYTES: i32 = 64;

pub(super) fn add_to(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Guested<'a> = Caller<'a, Guest>;
    linker
        .func_wrap(
            MODULE,
            "fd_read",
            |mut caller: Guested<'_>, fd: i32, parts: i32, count: i32, read: i32| {
                serve(&mut caller, |memory, guest| {
                    let bytes = fd_read(memory, guest, fd, parts, count)?;
                    Ok(memory.put_size(read, bytes)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_write",
            |mut caller: Guested<'_>, fd: i32, parts: i32, count: i32, written: i32| {
                serve(&mut caller, |memory, guest| {
                    let bytes = fd_write(memory, guest, fd, parts, count)?;
                    Ok(memory.put_size(written, bytes)?)
                })
            },
        )?
        .func_wrap(MODULE, "fd_close", |mut caller: Guested<'_>, fd: i32| {
            serve(&mut caller, |_memory, guest| {
                guest.open[stream(guest, fd)? as usize] = false;
                Ok(())
            })
        })?
        .func_wrap(
            MODULE,
            "fd_fdstat_get",
            |mut caller: Guested<'_>, fd: i32, at: i32| {
                serve(&mut caller, |memory, guest| {
                    let rights = match stream(guest, fd)? {
                        Stream::Stdin => RIGHTS | RIGHT_TO_READ,
                        Stream::Stdout | Stream::Stderr => RIGHTS | RIGHT_TO_WRITE,
                    };
                    // Of an unknown type: what is no terminal is written in blocks, not in lines.
                    let stat = memory.bytes_mut(at, FDSTAT_BYTES)?;
                    stat.fill(0);
                    stat[8..16].copy_from_slice(&rights.to_le_bytes());
                    Ok(())
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_filestat_get",
            |mut caller: Guested<'_>, fd: i32, at: i32| {
                serve(&mut caller, |memory, guest| {
                    stream(guest, fd)?;
                    memory.bytes_mut(at, FILESTAT_BYTES)?.fill(0);
                    Ok(())
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_fdstat_set_flags",
            // Nothing here ever waits, so there is nothing to set.
            |mut caller: Guested<'_>, fd: i32, _flags: i32| {
                serve(&mut caller, |_memory, guest| {
                    Ok(stream(guest, fd).map(drop)?)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "fd_fdstat_set_rights",
            |mut caller: Guested<'_>, fd: i32, _base: i64, _inheriting: i64| {
                serve(&mut caller, |_memory, guest| {
                    Ok(stream(guest, fd).map(drop)?)
                })
            },
        )?;
    Ok(())
}

fn fd_read(
    memory: &mut View<'_>,
    guest: &mut Guest,
    fd: i32,
    parts: i32,
    count: i32,
) -> Result<usize, Errno> {
    if stream(guest, fd)? != Stream::Stdin {
        return Err(Errno::BADF);
    }
    let mut total = 0;
    for number in 0..part_count(count)? {
        let part = memory.part(parts, number)?;
        let into = memory.bytes_mut(part.at, part.len)?;
        let wanted = into.len();
        let read = guest.stdin.read(into);
        total += read;
        if read < wanted {
            break;
        }
    }
    Ok(total)
}

fn fd_write(
    memory: &View<'_>,
    guest: &mut Guest,
    fd: i32,
    parts: i32,
    count: i32,
) -> Result<usize, Stop> {
    let to = stream(guest, fd)?;
    let mut total = 0;
    for number in 0..part_count(count)? {
        let part = memory.part(parts, number)?;
        let bytes = memory.bytes(part.at, part.len)?;
        match to {
            Stream::Stdin => return Err(Errno::BADF.into()),
            Stream::Stdout => {
                guest.stdout.write(bytes)?;
                total += bytes.len();
            }
            Stream::Stderr => {
                let room = LOG_BYTES_AT_A_TIME - total;
                let taken = &bytes[..bytes.len().min(room)];
                guest.stderr.write(taken);
                total += taken.len();
                if taken.len() < bytes.len() {
                    break;
                }
            }
        }
    }
    Ok(total)
}
