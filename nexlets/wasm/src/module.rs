//! A module, checked as far as that goes without running it.

use std::sync::Arc;

use nex_functions::{Failure, FailureKind, Source};
use wasmtime::{ExternType, InstancePre, ModuleExport};

use crate::{
    guest::Guest,
    limits::{Ended, MAX_TABLE_ELEMENTS},
    machine::Machine,
};

/// How WebAssembly begins: its magic, then its version, 1 for modules.
const MAGIC: &[u8] = b"\0asm";
const MODULE_VERSION: &[u8] = &[1, 0, 0, 0];
/// What components have instead of that version.
const COMPONENT_VERSION: &[u8] = &[0x0d, 0, 1, 0];

/// The unit of memory.
const PAGE_BYTES: u64 = 64 * 1024;

/// A command that is compiled and linked, shared by all threads.
#[derive(Clone)]
pub struct Module {
    pub(crate) machine: Arc<Machine>,
    pub(crate) pre: InstancePre<Guest>,
    /// `_start`.
    pub(crate) start: ModuleExport,
    /// `memory`, through which a guest and WASI talk.
    pub(crate) memory: Option<ModuleExport>,
    /// The memory that it begins with, in bytes.
    pub(crate) initial_bytes: u64,
    pub(crate) name: String,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("name", &self.name).finish()
    }
}

impl Module {
    pub(crate) fn load(machine: Arc<Machine>, source: &Source) -> Result<Self, Failure> {
        let name = source.shown_name();
        let invalid = |problem: String| Failure::new(FailureKind::Invalid, problem);
        check_header(name, &source.code).map_err(invalid)?;
        let module = machine
            .compile(&source.code)
            .map_err(|error| invalid(format!("{name} is no valid module: {error:#}")))?;
        check_start(name, &module).map_err(invalid)?;
        let start = module.get_export_index("_start");
        let start = start.ok_or_else(|| invalid(format!("{name} exports no `_start`")))?;
        let needs = module.resources_required();
        let initial_pages = needs.max_initial_memory_size.unwrap_or(0);
        if needs.max_initial_table_size.unwrap_or(0) > MAX_TABLE_ELEMENTS as u64 {
            let ended = Ended::Table(MAX_TABLE_ELEMENTS);
            return Err(Failure::new(FailureKind::Memory, ended.to_string()));
        }
        let pre = machine
            .link(&module)
            .map_err(|error| invalid(format!("{name} cannot be linked: {error:#}")))?;
        Ok(Self {
            start,
            memory: module.get_export_index("memory"),
            initial_bytes: initial_pages.saturating_mul(PAGE_BYTES),
            name: source.name.clone(),
            machine,
            pre,
        })
    }
}

fn check_header(name: &str, code: &[u8]) -> Result<(), String> {
    let hint = "build for the target `wasm32-wasip1`";
    match code.strip_prefix(MAGIC) {
        Some(rest) if rest.starts_with(MODULE_VERSION) => Ok(()),
        Some(rest) if rest.starts_with(COMPONENT_VERSION) => Err(format!(
            "{name} is a component: want a module, which is a WASI preview 1 command; {hint}"
        )),
        Some(_) => Err(format!("{name} is WebAssembly of an unknown version")),
        None => Err(format!("{name} is no WebAssembly: want a module; {hint}")),
    }
}

fn check_start(name: &str, module: &wasmtime::Module) -> Result<(), String> {
    match module.get_export("_start") {
        Some(ExternType::Func(start)) if start.params().len() + start.results().len() == 0 => {
            Ok(())
        }
        Some(_) => Err(format!(
            "the export `_start` of {name} is no function without arguments and results"
        )),
        None => Err(format!(
            "{name} is no command: it exports no `_start`; build a program, not a library"
        )),
    }
}
