//! QuickJS as an engine of the function host.

use std::{task::Poll, time::Instant};

use bytes::Bytes;
use nex_functions::{Engine, Failure, Finished, Invocation, InvocationKey, Setting, Source};

use crate::{instance::Instance, script::Script};

/// How deep a script's calls may nest, in bytes of stack. About 20,000 plain calls.
pub(crate) const MAX_STACK_BYTES: usize = 8 * 1024 * 1024;

/// Runs scripts whose value is a function `(subject, payload) => result`.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsEngine;

impl Engine for JsEngine {
    type Module = Script;
    type Instance = Instance;

    // As much again for what the runtime does between its own checks.
    const STACK_BYTES: usize = 2 * MAX_STACK_BYTES;

    fn load(&self, source: &Source) -> Result<Script, Failure> {
        Script::new(source)
    }

    fn instantiate(&self, script: &Script, setting: &Setting) -> Result<Instance, Failure> {
        Instance::new(script, setting)
    }

    fn begin(
        &self,
        instance: &mut Instance,
        key: InvocationKey,
        invocation: &Invocation,
        finished: &mut Vec<Finished>,
    ) -> Poll<Result<Bytes, Failure>> {
        instance.begin(key, invocation, finished)
    }

    fn resume(&self, instance: &mut Instance, finished: &mut Vec<Finished>) {
        instance.resume(finished);
    }

    fn wakes_at(&self, instance: &Instance) -> Option<Instant> {
        instance.wakes_at()
    }

    fn is_worn_out(&self, instance: &Instance) -> bool {
        instance.is_worn_out()
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
