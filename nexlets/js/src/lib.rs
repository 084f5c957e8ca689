//! The nexlet for JavaScript functions, on QuickJS.
//!
//! A script is a function if its value is one, as in `(subject, payload) => payload`:
//!
//! - It is a plain script, not a module; `this` is the global object in its arrow functions.
//! - `subject` is a string, `payload` a `Uint8Array` of its own.
//! - The result is the reply: a typed array or an `ArrayBuffer` as its bytes, a string as UTF-8,
//!   `undefined` as nothing, a `Response` as its body, and everything else as JSON. A promise is waited
//!   for, as long as something can settle it.
//! - `console.log`, `info` and `debug` write a line of the workload's stdout, `warn` and `error` one
//!   of its stderr.
//! - `kv(bucket)`, `objectStore(bucket)`, `http` and `messaging` are the host services, all
//!   synchronous. What they refuse is an exception with a `code`.
//!
//! A file with `import` or `export`, or one that ends in `.mjs`, is a module, and its default export
//! the function: `export default async (request, nex) => …`, with the host services of `nex` as
//! promises. Several files come as a [tar archive](pack). Both forms have some
//! interfaces of the web: `fetch`, `URL`, `crypto`, timers and others.
//!
//! An invocation of a module is suspended while it waits for answers or timers, and others may go on in the
//! same runtime meanwhile. It ends when its promise has settled and what it asked of the host is answered,
//! at its deadline, or when nothing is left that could settle the promise. The synchronous host services of
//! scripts hold the engine thread.
//!
//! # Runtimes and limits
//!
//! Each function has a runtime of its own on each engine thread, made when the first call comes to
//! that thread: the script runs there once, then the function is called (with `isolation: fresh`,
//! for each call). Variables keep their values
//! from call to call in one runtime; nothing is shared between runtimes. A call that computes past its
//! deadline, or whose memory runs out, is the last that begins in its runtime: those that are suspended
//! there go on, and the next call starts with a fresh one.
//!
//! | limit | value | what happens |
//! |---|---|---|
//! | time of a call | the start request's `timeout`, 5 s by default | ended, also inside of `try` and of built-in functions; 408 |
//! | memory of a runtime | 64 MiB | an exception, and a fresh runtime; 500 |
//! | depth of calls | 8 MiB of stack, some 13,000 calls of a small function | a `RangeError`; 500 |
//! | arguments of one call | 1,048,576, so `String.fromCharCode(...payload)` takes a payload of 1 MiB | a `RangeError`; 500 |
//! | size of a script, or of an archive | 1 MiB, 1,000 files | refused when it is started |
//! | calls of the host that one call has open | 1,024, which brought 64 MiB | an exception, `too_large` |
//! | timers of one call | 10,000 | an exception, `too_large` |

mod bytes;
mod console;
mod engine;
mod events;
mod failure;
mod ffi;
mod files;
mod imports;
mod instance;
mod loader;
mod nexlet;
mod ready;
mod rejections;
mod result;
mod script;
mod services;
mod setup;
mod task;
mod web;

/// What functions may reach through host services.
pub use nex_functions::Policy;

pub use crate::{
    engine::JsEngine,
    files::{MAX_FILES, PackError, pack},
    instance::Instance,
    nexlet::{JsConfig, JsNexlet, MAX_SCRIPT_BYTES, WORKLOAD_TYPE, nexlet},
    script::Script,
};
