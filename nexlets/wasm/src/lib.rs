//! The nexlet for WebAssembly functions, on wasmtime.
//!
//! A module is a function if it is a command of WASI preview 1, which is what compilers make of a
//! program for the target `wasm32-wasip1`:
//!
//! - It runs once for each message, from `_start`, in a memory of its own: nothing is left for the
//!   next.
//! - Its stdin is the payload, its stdout the reply, each line of its stderr a line of the log.
//! - Its arguments are the function's name and the subject; its environment is that of the start
//!   request.
//! - It can ask for the time, wait, and ask for random numbers. It has no files and no network.
//! - An exit code other than 0 is a failure.
//!
//! # Limits
//!
//! | limit | value | what happens |
//! |---|---|---|
//! | time of a run | the start request's `timeout`, 5 s by default | ended, also while it waits; 408 |
//! | memory | 64 MiB | ended; 500 |
//! | elements of a table | 100,000, of at most 4 tables | ended; 500 |
//! | depth of calls | 1 MiB of stack, beside the one in the guest's memory | ended; 500 |
//! | size of a result | what the server takes | ended at the first byte too much; 413 |
//! | size of a module | 16 MiB | refused when it is started |
//!
//! # Compiled code
//!
//! A module is compiled when it is started first, and the code is kept in the nexlet's folder: see
//! the module `compiled`. Before the first start there is no wasmtime in the process: a nexlet
//! without functions is small.

mod compiled;
mod engine;
mod guest;
mod instance;
mod limits;
mod machine;
mod module;
mod nexlet;
mod ticker;
mod wasi;

pub use crate::{
    engine::WasmEngine,
    instance::Instance,
    limits::MAX_MODULE_BYTES,
    module::Module,
    nexlet::{WORKLOAD_TYPE, WasmConfig, WasmNexlet, nexlet},
};
