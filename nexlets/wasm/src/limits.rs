//! Bounds of one call, in one table, and what ends the call that goes beyond them.

use wasmtime::ResourceLimiter;

/// How deep the calls of a guest may nest, in bytes of the engine thread's stack.
pub(crate) const MAX_WASM_STACK_BYTES: usize = 1024 * 1024;
/// The most elements of one table.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;
/// The most tables of one module. Compilers make one.
pub(crate) const MAX_TABLES: u32 = 4;
/// The largest module in bytes.
pub const MAX_MODULE_BYTES: u64 = 16 * 1024 * 1024;
/// The compiled modules that are kept on disk, in bytes.
pub(crate) const MAX_COMPILED_BYTES: u64 = 1024 * 1024 * 1024;

/// Why a run is over before the guest's last instruction. It goes through the guest as a trap, which
/// no guest can catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The guest said so, with this code.
    Exit(i32),
    /// Its time is over.
    Deadline,
    /// It wanted more memory than this many bytes.
    Memory(usize),
    /// It wanted a table with more than this many elements.
    Table(usize),
    /// It wrote a result of more than this many bytes.
    Output(usize),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exited with code {code}"),
            Self::Deadline => f.write_str("interrupted"),
            Self::Memory(bytes) => {
                let limit = bytes / (1024 * 1024);
                write!(f, "out of memory: its limit is {limit} MiB")
            }
            Self::Table(elements) => {
                write!(f, "a table is too large: its limit is {elements} elements")
            }
            Self::Output(bytes) => {
                write!(f, "the result is too large: the server takes {bytes} bytes")
            }
        }
    }
}

impl std::error::Error for Ended {}

/// Ends a guest that wants more than it may have.
///
/// A refused `memory.grow` would only give the guest -1. Some go on after that as if nothing had
/// happened, others abort in a way that tells nobody what was wrong; so the run ends there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) memory_bytes: usize,
}

impl ResourceLimiter for Bounds {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // What is beyond a module's own maximum fails by itself, as the module expects.
        let by_itself = maximum.is_some_and(|maximum| desired > maximum);
        if desired > self.memory_bytes && !by_itself {
            return Err(Ended::Memory(self.memory_bytes).into());
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let by_itself = maximum.is_some_and(|maximum| desired > maximum);
        if desired > MAX_TABLE_ELEMENTS && !by_itself {
            return Err(Ended::Table(MAX_TABLE_ELEMENTS).into());
        }
        Ok(true)
    }
}
