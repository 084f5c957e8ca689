//! What all guests of a process share: wasmtime with its settings, its clock, and compiled code.

use std::{fmt, path::Path};

use tracing::warn;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker,
    PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::{
    compiled::{Compiled, Digest},
    guest::Guest,
    limits::{MAX_TABLE_ELEMENTS, MAX_TABLES, MAX_WASM_STACK_BYTES},
    ticker::Ticker,
    wasi,
};

/// How much of a guest's memory is zeroed by hand after a run, in bytes. The rest goes back to the
/// system, which costs a call of the system and a page fault for each page that the next run touches.
const KEPT_MEMORY_BYTES: usize = 128 * 1024;
/// As much of its tables.
const KEPT_TABLE_BYTES: usize = 16 * 1024;

/// One wasmtime.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
    linker: Linker<Guest>,
    /// Absent where its folder cannot be used: then each start compiles anew.
    compiled: Option<Compiled>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl Machine {
    /// Sets wasmtime up for so many guests at a time.
    pub(crate) fn new(cache_dir: &Path, guests: usize) -> wasmtime::Result<Self> {
        let engine = Engine::new(&config(guests))?;
        let ticker = Ticker::start(engine.clone())?;
        let mut linker = Linker::new(&engine);
        wasi::add_to(&mut linker)?;
        let compiled = Compiled::open(cache_dir, &engine)
            .inspect_err(|error| {
                warn!(%error, folder = %cache_dir.display(), "compiled modules are not kept");
            })
            .ok();
        Ok(Self {
            engine,
            ticker,
            linker,
            compiled,
        })
    }

    /// The module, compiled unless that was done before.
    pub(crate) fn compile(&self, wasm: &[u8]) -> wasmtime::Result<wasmtime::Module> {
        let Some(compiled) = &self.compiled else {
            return wasmtime::Module::from_binary(&self.engine, wasm);
        };
        let digest = Digest::of(wasm);
        if let Some(module) = compiled.get(&self.engine, &digest) {
            return Ok(module);
        }
        let code = self.engine.precompile_module(wasm)?;
        match compiled.put(&digest, &code) {
            // Its pages are those of the file, which the system can drop and read again.
            Ok(()) => match compiled.get(&self.engine, &digest) {
                Some(module) => return Ok(module),
                None => warn!("a compiled module that was just written cannot be read"),
            },
            Err(error) => warn!(%error, "failed to keep a compiled module"),
        }
        wasmtime::Module::from_binary(&self.engine, wasm)
    }

    /// Finds what a module imports.
    pub(crate) fn link(&self, module: &wasmtime::Module) -> wasmtime::Result<InstancePre<Guest>> {
        self.linker.instantiate_pre(module)
    }
}

fn config(guests: usize) -> Config {
    let guests = u32::try_from(guests).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    // The addresses of a guest are reserved for all that 32 bits can name, so that its code needs no
    // checks; what it may have is up to its bounds.
    pool.total_core_instances(guests)
        .total_memories(guests)
        .max_memories_per_module(1)
        .total_tables(guests.saturating_mul(MAX_TABLES))
        .max_tables_per_module(MAX_TABLES)
        .table_elements(2 * MAX_TABLE_ELEMENTS)
        .max_unused_warm_slots(guests)
        .linear_memory_keep_resident(KEPT_MEMORY_BYTES)
        // Of what is kept only the pages that guests have touched, where the system tells which.
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(KEPT_TABLE_BYTES);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK_BYTES)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        // The names of functions are enough; and by default it would ask the environment.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false)
        .native_unwind_info(false);
    config
}
