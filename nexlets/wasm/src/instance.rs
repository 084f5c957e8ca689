//! One function: what each of its runs begins with.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use nex_functions::{About, Console, Failure, FailureKind, Invocation};
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::{
    guest::Guest,
    limits::{Ended, MAX_WASM_STACK_BYTES},
    module::Module,
};

/// The longest name of a function in a failure, in bytes, so that the rest fits behind it.
const MAX_NAME_BYTES: usize = 200;

/// A command that is ready to run. Nothing of one run is left for the next: each has a memory of its
/// own.
#[derive(Debug)]
pub struct Instance {
    module: Module,
    name: Arc<str>,
    /// `NAME=value`, each.
    environment: Arc<[String]>,
    console: Console,
    memory_bytes: usize,
}

impl Instance {
    pub(crate) fn new(
        module: &Module,
        about: &About,
        console: &Console,
        memory_bytes: usize,
    ) -> Result<Self, Failure> {
        if module.initial_bytes > memory_bytes as u64 {
            let mib = module.initial_bytes.div_ceil(1024 * 1024);
            let text = format!("{}: it begins with {mib} MiB", Ended::Memory(memory_bytes));
            return Err(Failure::new(FailureKind::Memory, text));
        }
        let variables = about.environment.iter();
        let environment = variables.map(|(name, value)| format!("{name}={value}"));
        Ok(Self {
            module: module.clone(),
            name: about.name.as_str().into(),
            environment: environment.collect(),
            console: console.clone(),
            memory_bytes,
        })
    }

    /// Runs the command once: the payload is its stdin, its stdout the result.
    pub(crate) fn call(&self, invocation: &Invocation) -> Result<Bytes, Failure> {
        let machine = &self.module.machine;
        let guest = Guest::new(
            Arc::clone(&self.name),
            Arc::clone(&self.environment),
            self.console.for_invocation(invocation),
            self.memory_bytes,
            invocation,
        );
        let mut store = Store::new(&machine.engine, guest);
        store.limiter(|guest| &mut guest.bounds);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            if Instant::now() >= store.data().deadline {
                return Err(Ended::Deadline.into());
            }
            Ok(UpdateDeadline::Continue(1))
        });
        let running = machine.ticker.running();
        let ran = self.run(&mut store);
        drop(running);
        let guest = store.data_mut();
        guest.stderr.finish();
        match ran {
            Ok(()) => Ok(guest.stdout.take()),
            Err(error) => match error.downcast_ref() {
                Some(Ended::Exit(0)) => Ok(guest.stdout.take()),
                _ => Err(failure(&error)),
            },
        }
    }

    fn run(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        let instance = self.module.pre.instantiate(&mut *store)?;
        let memory = self.module.memory.as_ref();
        let memory = memory.and_then(|export| instance.get_module_export(&mut *store, export));
        store.data_mut().memory = memory.and_then(wasmtime::Extern::into_memory);
        let start = instance.get_module_export(&mut *store, &self.module.start);
        let start = start.and_then(wasmtime::Extern::into_func);
        let start = start.expect("it was checked when the module was loaded");
        start.typed::<(), ()>(&*store)?.call(store, ())
    }
}

/// What ended a run, and where.
fn failure(error: &wasmtime::Error) -> Failure {
    let (kind, what) = if let Some(ended) = error.downcast_ref::<Ended>() {
        let kind = match ended {
            Ended::Exit(_) => FailureKind::Code,
            Ended::Deadline => FailureKind::Deadline,
            Ended::Memory(_) | Ended::Table(_) => FailureKind::Memory,
            Ended::Output(_) => FailureKind::TooLarge,
        };
        (kind, ended.to_string())
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        let what = match trap {
            Trap::StackOverflow => {
                let limit = MAX_WASM_STACK_BYTES / (1024 * 1024);
                format!("stack overflow: its limit is {limit} MiB")
            }
            trap => trap.to_string(),
        };
        (FailureKind::Code, what)
    } else {
        (FailureKind::Internal, format!("{error:#}"))
    };
    // An exit is what the code wanted; where it did so is in its runtime.
    let is_exit = matches!(error.downcast_ref(), Some(Ended::Exit(_)));
    let place = if is_exit { None } else { place(error) };
    match place {
        Some(place) => Failure::new(kind, format!("{what}, in `{place}`")),
        None => Failure::new(kind, what),
    }
}

/// The function of the guest that ran when it ended.
fn place(error: &wasmtime::Error) -> Option<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>()?;
    let frame = backtrace.frames().first()?;
    let mut name = match frame.func_name() {
        // Without the hash that tells versions of it apart.
        Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
        None => format!("function {}", frame.func_index()),
    };
    if name.len() > MAX_NAME_BYTES {
        name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
        name.push('…');
    }
    Some(name)
}
