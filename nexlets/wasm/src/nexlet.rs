//! The nexlet: what is said of it, and how it is set up.

use std::path::PathBuf;

use nex_functions::{FunctionHost, FunctionNexlet, Language, Limits};

use crate::{engine::WasmEngine, limits::MAX_MODULE_BYTES};

/// The type of workload that this nexlet runs.
pub const WORKLOAD_TYPE: &str = "wasm";

const LANGUAGE: Language = Language {
    workload_type: WORKLOAD_TYPE,
    description: "runs WebAssembly functions",
    code: "the module, a WASI preview 1 command",
    max_code_bytes: MAX_MODULE_BYTES,
    unnamed: "module",
    extensions: &["wasm"],
    is_concurrent: false,
    version: env!("CARGO_PKG_VERSION"),
};

/// How a [`WasmNexlet`] is set up.
#[derive(Clone, Debug)]
pub struct WasmConfig {
    /// A folder of its own, in which it keeps compiled modules.
    pub data_dir: PathBuf,
    /// The bounds of its functions.
    pub limits: Limits,
}

impl WasmConfig {
    /// The usual bounds, with this folder.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            limits: Limits::default(),
        }
    }
}

/// Runs WebAssembly functions.
pub type WasmNexlet = FunctionNexlet<WasmEngine>;

/// A nexlet without functions.
#[must_use]
pub fn nexlet(config: WasmConfig) -> WasmNexlet {
    let engine = WasmEngine::new(
        config.data_dir.join("compiled"),
        config.limits.most_threads(),
    );
    FunctionNexlet::new(LANGUAGE, FunctionHost::new(engine, config.limits))
}
