//! The nexlet: what is said of it, and how it is set up.

use nex_functions::{FunctionHost, FunctionNexlet, Language, Limits, Policy};

use crate::engine::JsEngine;

/// The type of workload that this nexlet runs.
pub const WORKLOAD_TYPE: &str = "js";

/// The largest script in bytes.
pub const MAX_SCRIPT_BYTES: u64 = 1024 * 1024;

const LANGUAGE: Language = Language {
    workload_type: WORKLOAD_TYPE,
    description: "runs JavaScript functions",
    code: "the script, whose value is `(subject, payload) => result`; the module, whose default \
           export is `async (request, nex) => result`; or a tar archive of modules",
    max_code_bytes: MAX_SCRIPT_BYTES,
    unnamed: "script",
    extensions: &["js", "mjs"],
    is_concurrent: true,
    version: env!("CARGO_PKG_VERSION"),
};

/// How a [`JsNexlet`] is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsConfig {
    /// The bounds of its functions.
    pub limits: Limits,
    /// What they may reach through host services.
    pub policy: Policy,
}

/// Runs JavaScript functions.
pub type JsNexlet = FunctionNexlet<JsEngine>;

/// A nexlet without functions.
#[must_use]
pub fn nexlet(config: JsConfig) -> JsNexlet {
    let functions = FunctionHost::new(JsEngine, config.limits).with_policy(config.policy);
    FunctionNexlet::new(LANGUAGE, functions)
}
