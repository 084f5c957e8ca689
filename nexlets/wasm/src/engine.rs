//! wasmtime as an engine of the function host.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Instant,
};

use bytes::Bytes;
use nex_functions::{
    Engine, Failure, FailureKind, Finished, Invocation, InvocationKey, Setting, Source,
};

use crate::{instance::Instance, limits::MAX_WASM_STACK_BYTES, machine::Machine, module::Module};

/// Runs WASI preview 1 commands.
pub struct WasmEngine {
    cache_dir: PathBuf,
    /// How many guests run at a time.
    guests: usize,
    /// Made when the first module is loaded: it reserves addresses for its guests, and starts a
    /// thread.
    machine: Mutex<Option<Arc<Machine>>>,
}

impl WasmEngine {
    /// An engine for so many guests at a time, which keeps compiled modules in this folder.
    pub(crate) fn new(cache_dir: PathBuf, guests: usize) -> Self {
        Self {
            cache_dir,
            guests,
            machine: Mutex::new(None),
        }
    }

    fn machine(&self) -> Result<Arc<Machine>, Failure> {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(machine) = &*machine {
            return Ok(Arc::clone(machine));
        }
        let made = Machine::new(&self.cache_dir, self.guests).map_err(|error| {
            let text = format!("failed to set up wasmtime: {error:#}");
            Failure::new(FailureKind::Internal, text)
        })?;
        Ok(Arc::clone(machine.insert(Arc::new(made))))
    }
}

impl fmt::Debug for WasmEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmEngine")
            .field("cache_dir", &self.cache_dir)
            .finish_non_exhaustive()
    }
}

impl Engine for WasmEngine {
    type Module = Module;
    type Instance = Instance;

    // What is left is for the host: a trap is described on the stack that it happened on.
    const STACK_BYTES: usize = MAX_WASM_STACK_BYTES + 1024 * 1024;

    fn load(&self, source: &Source) -> Result<Module, Failure> {
        Module::load(self.machine()?, source)
    }

    fn instantiate(&self, module: &Module, setting: &Setting) -> Result<Instance, Failure> {
        let Setting {
            about,
            console,
            memory_bytes,
            ..
        } = setting;
        Instance::new(module, about, console, *memory_bytes)
    }

    /// A guest that waits holds its thread, so each invocation ends in its first turn.
    fn begin(
        &self,
        instance: &mut Instance,
        _key: InvocationKey,
        invocation: &Invocation,
        _finished: &mut Vec<Finished>,
    ) -> Poll<Result<Bytes, Failure>> {
        Poll::Ready(instance.call(invocation))
    }

    fn resume(&self, _instance: &mut Instance, _finished: &mut Vec<Finished>) {}

    fn wakes_at(&self, _instance: &Instance) -> Option<Instant> {
        None
    }

    fn is_worn_out(&self, _instance: &Instance) -> bool {
        // Nothing of one run is left for the next, however it ended.
        false
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
