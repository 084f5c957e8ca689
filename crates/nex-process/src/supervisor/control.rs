//! The supervisor's end of the channel to its owner.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{Lines, encode};

/// The socket that the owner left on descriptor 0.
pub(super) struct Control {
    lines: Lines,
    open: bool,
}

/// What there is to read.
pub(super) enum Input<T> {
    Line(T),
    Nothing,
    End,
}

impl Control {
    /// # Errors
    /// Standard input is not a socket.
    pub(super) fn on_stdin() -> io::Result<Self> {
        rustix::net::getsockname(rustix::stdio::stdin())?;
        Ok(Self {
            lines: Lines::default(),
            open: true,
        })
    }

    /// The descriptor to poll, until the owner is dead.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(rustix::stdio::stdin)
    }

    /// Stops listening to the owner.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// Waits for a line; none if the owner ended first.
    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            match self.next(RecvFlags::empty())? {
                Input::Line(value) => return Ok(Some(value)),
                Input::End => return Ok(None),
                Input::Nothing => {}
            }
        }
    }

    /// Reads a line if one is there.
    pub(super) fn try_receive<T: DeserializeOwned>(&mut self) -> io::Result<Input<T>> {
        self.next(RecvFlags::DONTWAIT)
    }

    fn next<T: DeserializeOwned>(&mut self, flags: RecvFlags) -> io::Result<Input<T>> {
        // On the stack: a supervisor keeps no buffers.
        let mut bytes = [0; 4096];
        loop {
            if let Some(value) = self.lines.next()? {
                return Ok(Input::Line(value));
            }
            match recv(rustix::stdio::stdin(), &mut bytes[..], flags) {
                Ok((0, _)) => return Ok(Input::End),
                Ok((count, _)) => self.lines.push(&bytes[..count])?,
                Err(Errno::AGAIN) => return Ok(Input::Nothing),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tells the owner.
    pub(super) fn send<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let line = encode(value)?;
        let mut rest = &line[..];
        while !rest.is_empty() {
            match send(rustix::stdio::stdin(), rest, SendFlags::NOSIGNAL) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
