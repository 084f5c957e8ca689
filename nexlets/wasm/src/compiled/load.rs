//! The one unsafe step: wasmtime takes a compiled module at its word.

use std::fs::File;

use wasmtime::{Engine, Module};

/// Maps compiled code into memory. Who calls this has checked that this node compiled it.
#[expect(
    unsafe_code,
    reason = "wasmtime cannot check machine code, so its own interface is unsafe"
)]
pub(super) fn load(engine: &Engine, code: File) -> wasmtime::Result<Module> {
    // SAFETY: the file has to be what `Engine::precompile_module` wrote, and must not change while it
    // is mapped. `Compiled::read`, which alone calls this, has read this very file, and its seal says
    // that this node wrote it for this module. It is in a folder that no other user may write to, and
    // we ourselves replace such files by renaming, and never write into one. wasmtime checks by
    // itself that its version and settings are the same.
    unsafe { Module::deserialize_open_file(engine, code) }
}
