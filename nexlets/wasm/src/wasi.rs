//! WASI preview 1 for guests without files and network.
//!
//! The interface is frozen, and with three streams, clocks and random numbers little of it is left:
//! everything else answers with an error number. So this is all there is between a guest and the
//! machine, and a wait in it ends at the guest's deadline.
//!
//! The names, the types and the layouts in memory are those of `wasi_snapshot_preview1`.

mod clock;
mod memory;
mod streams;

use std::time::Instant;

use wasmtime::{Caller, Linker};

use self::memory::View;
use crate::{guest::Guest, limits::Ended};

/// The module that guests import all of it from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// How many bytes of random numbers are made between looks at the deadline.
const RANDOM_BYTES_AT_A_TIME: usize = 64 * 1024;

/// An error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(i32);

impl Errno {
    pub(crate) const BADF: Self = Self(8);
    pub(crate) const FAULT: Self = Self(21);
    pub(crate) const INVAL: Self = Self(28);
    pub(crate) const IO: Self = Self(29);
    pub(crate) const NOTDIR: Self = Self(54);
    pub(crate) const NOTSUP: Self = Self(58);
    pub(crate) const SPIPE: Self = Self(70);
}

/// Why a call of the guest did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The guest is told.
    Error(Errno),
    /// The guest is ended.
    End(Ended),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Error(errno)
    }
}

impl From<Ended> for Stop {
    fn from(ended: Ended) -> Self {
        Self::End(ended)
    }
}

type Done = Result<(), Stop>;

/// Runs one call with the guest's memory and state, and makes its result one of WASI.
fn serve(
    caller: &mut Caller<'_, Guest>,
    call: impl FnOnce(&mut View<'_>, &mut Guest) -> Done,
) -> wasmtime::Result<i32> {
    let done = match caller.data().memory {
        Some(memory) => {
            let (bytes, guest) = memory.data_and_store_mut(&mut *caller);
            call(&mut View(bytes), guest)
        }
        // It has none, or calls before it has been instantiated.
        None => Err(Errno::FAULT.into()),
    };
    // A guest looks at its deadline in loops and calls of its own, not between calls like this.
    if Instant::now() >= caller.data().deadline {
        return Err(Ended::Deadline.into());
    }
    match done {
        Ok(()) => Ok(0),
        Err(Stop::Error(errno)) => Ok(errno.0),
        Err(Stop::End(ended)) => Err(ended.into()),
    }
}

/// A stream that a guest means by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

fn stream(guest: &Guest, fd: i32) -> Result<Stream, Errno> {
    let (stream, open) = match fd {
        0 => (Stream::Stdin, guest.open[0]),
        1 => (Stream::Stdout, guest.open[1]),
        2 => (Stream::Stderr, guest.open[2]),
        _ => return Err(Errno::BADF),
    };
    if open { Ok(stream) } else { Err(Errno::BADF) }
}

/// What a function on a file answers: that the number is none, or that it is a stream's.
fn refuse(caller: &Caller<'_, Guest>, fd: i32, errno: Errno) -> i32 {
    stream(caller.data(), fd).map_or_else(|bad| bad.0, |_| errno.0)
}

/// A name of a function with the type of its imports, of which only the first argument, a file's
/// number, matters: whatever it is, the answer is an error.
macro_rules! refused {
    ($linker:ident, $($name:literal: ($($type:ty),*) is $errno:expr;)*) => {
        $($linker.func_wrap(
            MODULE,
            $name,
            |caller: Caller<'_, Guest>, fd: i32 $(, _: $type)*| refuse(&caller, fd, $errno),
        )?;)*
    };
}

/// Puts all of it where guests can import it from.
pub(crate) fn add_to(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_process(linker)?;
    clock::add_to(linker)?;
    streams::add_to(linker)?;
    add_refused(linker)
}

fn add_process(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Guested<'a> = Caller<'a, Guest>;
    linker
        .func_wrap(
            MODULE,
            "args_sizes_get",
            |mut caller: Guested<'_>, count: i32, bytes: i32| {
                serve(&mut caller, |memory, guest| {
                    put_sizes(memory, &guest.args(), count, bytes)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "args_get",
            |mut caller: Guested<'_>, pointers: i32, bytes: i32| {
                serve(&mut caller, |memory, guest| {
                    put_texts(memory, &guest.args(), pointers, bytes)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "environ_sizes_get",
            |mut caller: Guested<'_>, count: i32, bytes: i32| {
                serve(&mut caller, |memory, guest| {
                    put_sizes(memory, &guest.environment, count, bytes)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "environ_get",
            |mut caller: Guested<'_>, pointers: i32, bytes: i32| {
                serve(&mut caller, |memory, guest| {
                    put_texts(memory, &guest.environment, pointers, bytes)
                })
            },
        )?
        .func_wrap(
            MODULE,
            "proc_exit",
            |_caller: Guested<'_>, code: i32| -> wasmtime::Result<()> {
                Err(Ended::Exit(code).into())
            },
        )?
        .func_wrap(
            MODULE,
            "proc_raise",
            |_caller: Guested<'_>, _signal: i32| Errno::NOTSUP.0,
        )?
        .func_wrap(MODULE, "sched_yield", |_caller: Guested<'_>| 0)?
        .func_wrap(
            MODULE,
            "random_get",
            |mut caller: Guested<'_>, at: i32, count: i32| {
                serve(&mut caller, |memory, guest| {
                    let bytes = memory.bytes_mut(at, count)?;
                    for part in bytes.chunks_mut(RANDOM_BYTES_AT_A_TIME) {
                        getrandom::fill(part).map_err(|_unavailable| Errno::IO)?;
                        if Instant::now() >= guest.deadline {
                            return Err(Ended::Deadline.into());
                        }
                    }
                    Ok(())
                })
            },
        )?;
    Ok(())
}

/// How many texts there are, and how many bytes they have with a zero behind each.
fn put_sizes<T: AsRef<str>>(
    memory: &mut View<'_>,
    texts: &[T],
    count: i32,
    bytes: i32,
) -> Result<(), Stop> {
    let size: usize = texts.iter().map(|text| text.as_ref().len() + 1).sum();
    memory.put_size(count, texts.len())?;
    Ok(memory.put_size(bytes, size)?)
}

/// The texts with a zero behind each, and where each of them is.
fn put_texts<T: AsRef<str>>(
    memory: &mut View<'_>,
    texts: &[T],
    pointers: i32,
    bytes: i32,
) -> Result<(), Stop> {
    let (mut pointer, mut at) = (pointers, bytes);
    for text in texts {
        let text = text.as_ref();
        memory.put_u32(pointer, at.cast_unsigned())?;
        memory.put(at, text.as_bytes())?;
        at = memory::after(at, text.len())?;
        memory.put(at, &[0])?;
        at = memory::after(at, 1)?;
        pointer = memory::after(pointer, 4)?;
    }
    Ok(())
}

fn add_refused(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    refused! { linker,
        "fd_advise": (i64, i64, i32) is Errno::SPIPE;
        "fd_allocate": (i64, i64) is Errno::SPIPE;
        "fd_datasync": () is Errno::INVAL;
        "fd_filestat_set_size": (i64) is Errno::INVAL;
        "fd_filestat_set_times": (i64, i64, i32) is Errno::INVAL;
        "fd_pread": (i32, i32, i64, i32) is Errno::SPIPE;
        "fd_prestat_dir_name": (i32, i32) is Errno::BADF;
        "fd_prestat_get": (i32) is Errno::BADF;
        "fd_pwrite": (i32, i32, i64, i32) is Errno::SPIPE;
        "fd_readdir": (i32, i32, i64, i32) is Errno::NOTDIR;
        "fd_renumber": (i32) is Errno::NOTSUP;
        "fd_seek": (i64, i32, i32) is Errno::SPIPE;
        "fd_sync": () is Errno::INVAL;
        "fd_tell": (i32) is Errno::SPIPE;
        "path_create_directory": (i32, i32) is Errno::NOTDIR;
        "path_filestat_get": (i32, i32, i32, i32) is Errno::NOTDIR;
        "path_filestat_set_times": (i32, i32, i32, i64, i64, i32) is Errno::NOTDIR;
        "path_link": (i32, i32, i32, i32, i32, i32) is Errno::NOTDIR;
        "path_open": (i32, i32, i32, i32, i64, i64, i32, i32) is Errno::NOTDIR;
        "path_readlink": (i32, i32, i32, i32, i32) is Errno::NOTDIR;
        "path_remove_directory": (i32, i32) is Errno::NOTDIR;
        "path_rename": (i32, i32, i32, i32, i32) is Errno::NOTDIR;
        "path_unlink_file": (i32, i32) is Errno::NOTDIR;
        "sock_accept": (i32, i32) is Errno::NOTSUP;
        "sock_recv": (i32, i32, i32, i32, i32) is Errno::NOTSUP;
        "sock_send": (i32, i32, i32, i32) is Errno::NOTSUP;
        "sock_shutdown": (i32) is Errno::NOTSUP;
    }
    // Its first argument is a path, the third the number.
    linker.func_wrap(
        MODULE,
        "path_symlink",
        |caller: Caller<'_, Guest>, _old: i32, _old_len: i32, fd: i32, _new: i32, _new_len: i32| {
            refuse(&caller, fd, Errno::NOTDIR)
        },
    )?;
    Ok(())
}
