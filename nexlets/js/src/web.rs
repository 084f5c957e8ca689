//! The interfaces of the web: `fetch`, `URL`, `crypto`, timers and so on.
//!
//! They are JavaScript on a few functions of the host, in pieces that are read when one of their
//! globals is first used: most functions use few of them, and ten thousand functions are many.

mod url;

use std::{cell::Cell, rc::Rc};

use nex_functions::About;
use ring::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use rquickjs::{
    Array, Ctx, Exception, Function, IntoJs as _, Object, Persistent, TypedArray, Value,
    context::EvalOptions,
};

use crate::services::{self, Arguments, Host, array, pairs, throw, undefined};

/// How the pieces are held together.
const PIECES: &str = include_str!("web/pieces.js");

/// The globals, and the piece that each is in.
const GLOBALS: [(&str, &str); 17] = [
    ("AbortController", "abort"),
    ("AbortSignal", "abort"),
    ("Headers", "headers"),
    ("Request", "fetch"),
    ("Response", "fetch"),
    ("TextDecoder", "text"),
    ("TextEncoder", "text"),
    ("URL", "url"),
    ("URLSearchParams", "url"),
    ("clearInterval", "timers"),
    ("clearTimeout", "timers"),
    ("crypto", "crypto"),
    ("fetch", "fetch"),
    ("setInterval", "timers"),
    ("setTimeout", "timers"),
    ("structuredClone", "clone"),
    ("self", "itself"),
];

/// The most random bytes at a time.
const MAX_RANDOM_BYTES: u64 = 65_536;

/// What the nexlet itself needs of the pieces.
pub(crate) struct Web {
    /// Gives the exports of a piece.
    need: Persistent<Function<'static>>,
    /// Gives what is sent for a result.
    result: Persistent<Function<'static>>,
    /// Whether there can be a `Response`.
    has_responses: Rc<Cell<bool>>,
}

impl Web {
    /// Puts the interfaces among the globals.
    pub(crate) fn install<'js>(
        ctx: &Ctx<'js>,
        host: &Rc<Host>,
        about: &About,
    ) -> rquickjs::Result<Self> {
        let start: Function<'js> = eval(ctx, "pieces", PIECES)?;
        let has_responses = Rc::new(Cell::new(false));
        let seen = Rc::clone(&has_responses);
        let compile = Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String| {
            seen.set(seen.get() || name == "fetch");
            eval::<Value<'js>>(&ctx, &name, source(&name))
        })?;
        let functions = functions(ctx, host, about)?;
        let started: Object<'js> = start.call((functions, compile, pairs(ctx, &GLOBALS)?))?;
        let (need, result): (Function<'js>, Function<'js>) =
            (started.get("need")?, started.get("result")?);
        Ok(Self {
            need: Persistent::save(ctx, need),
            result: Persistent::save(ctx, result),
            has_responses,
        })
    }

    /// The function that runs a module's function: `run(function, id, subject, payload, headers,
    /// attempt)`.
    pub(crate) fn run<'js>(&self, ctx: &Ctx<'js>) -> rquickjs::Result<Function<'js>> {
        let need = self.need.clone().restore(ctx)?;
        need.call::<_, Object<'js>>(("nex",))?.get("run")
    }

    /// What is sent for a result: of a `Response` its body, of everything else itself.
    pub(crate) fn result<'js>(
        &self,
        ctx: &Ctx<'js>,
        value: Value<'js>,
    ) -> rquickjs::Result<Value<'js>> {
        match self.has_responses.get() && value.is_object() {
            true => self.result.clone().restore(ctx)?.call((value,)),
            false => Ok(value),
        }
    }
}

fn source(piece: &str) -> &'static str {
    match piece {
        "abort" => include_str!("web/abort.js"),
        "clone" => include_str!("web/clone.js"),
        "crypto" => include_str!("web/crypto.js"),
        "fetch" => include_str!("web/fetch.js"),
        "headers" => include_str!("web/headers.js"),
        "nex" => include_str!("web/nex.js"),
        "text" => include_str!("web/text.js"),
        "timers" => include_str!("web/timers.js"),
        "url" => include_str!("web/url.js"),
        _itself => "() => ({ self: globalThis })",
    }
}

/// The value of one of our own scripts.
fn eval<'js, T: rquickjs::FromJs<'js>>(
    ctx: &Ctx<'js>,
    name: &str,
    source: &str,
) -> rquickjs::Result<T> {
    let mut options = EvalOptions::default();
    options.filename = Some(format!("nex:{name}"));
    ctx.eval_with_options(source, options)
}

/// The host's functions, which only the pieces see.
fn functions<'js>(ctx: &Ctx<'js>, host: &Rc<Host>, about: &About) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    services::install_async(&object, host)?;
    url::install(&object, host)?;
    host.method(&object, "timer", timer)?;
    host.method(&object, "clearTimer", |host, given| {
        if let Ok(id) = given.number(0, "a timer") {
            host.events.clear_timer(id);
        }
        Ok(undefined(given.ctx()))
    })?;
    host.method(&object, "encode", |_host, given| {
        array(given.ctx(), &given.bytes(0)?)
    })?;
    host.method(&object, "decode", decode)?;
    host.method(&object, "random", |_host, given| {
        let count = given.number(0, "a number of bytes")?.min(MAX_RANDOM_BYTES);
        let bytes = random(given.ctx(), count as usize)?;
        Ok(TypedArray::<u8>::new_copy(given.ctx().clone(), bytes)?.into_value())
    })?;
    host.method(&object, "uuid", |_host, given| {
        uuid(given.ctx())?.into_js(given.ctx())
    })?;
    host.method(&object, "digest", |_host, given| {
        let algorithm = match given.text(0, "an algorithm")?.as_str() {
            "SHA-1" => &SHA1_FOR_LEGACY_USE_ONLY,
            "SHA-256" => &SHA256,
            "SHA-384" => &SHA384,
            "SHA-512" => &SHA512,
            _unknown => return Ok(undefined(given.ctx())),
        };
        let digest = digest(algorithm, &given.bytes(1)?);
        Ok(TypedArray::<u8>::new_copy(given.ctx().clone(), digest)?.into_value())
    })?;
    let workload = [
        ("id", about.id.as_str()),
        ("name", &about.name),
        ("namespace", &about.namespace),
    ];
    object.set("workload", pairs(ctx, &workload)?)?;
    let environment: Vec<_> = about.environment.iter().collect();
    object.set("env", pairs(ctx, &environment)?)?;
    Ok(object)
}

/// `timer(callback, millis, repeats)`: its number.
fn timer<'js>(host: &Rc<Host>, given: &Arguments<'js>) -> rquickjs::Result<Value<'js>> {
    let ctx = given.ctx();
    let callback = given.value(0).and_then(Value::as_function).cloned();
    let callback = callback.ok_or_else(|| given.wrong(0, "a function"))?;
    let millis = given.value(1).and_then(Value::as_number).unwrap_or(0.0);
    let repeats = given.value(2).and_then(Value::as_bool) == Some(true);
    let Some(task) = host.tasks.current() else {
        // Its invocation is over, so it never goes off.
        return 0.into_js(ctx);
    };
    let callback = Persistent::save(ctx, callback);
    match host.events.set_timer(&task, callback, millis, repeats) {
        Ok(id) => (id as f64).into_js(ctx),
        Err(error) => Err(throw(ctx, &error)),
    }
}

/// `decode(bytes, fatal, more)`: the text, and of how many bytes it is. Where more is to come, those
/// of a character that is not whole yet are left.
fn decode<'js>(_host: &Rc<Host>, given: &Arguments<'js>) -> rquickjs::Result<Value<'js>> {
    let ctx = given.ctx();
    let flag = |index| given.value(index).and_then(Value::as_bool) == Some(true);
    let (bytes, fatal, more) = (given.bytes(0)?, flag(1), flag(2));
    let mut used = bytes.len();
    if more && let Some(last) = bytes.utf8_chunks().last() {
        let tail = last.invalid();
        if std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none()) {
            used -= tail.len();
        }
    }
    let text = match std::str::from_utf8(&bytes[..used]) {
        Ok(text) => text.into_js(ctx)?,
        Err(_) if fatal => return Err(Exception::throw_type(ctx, "the bytes are no UTF-8")),
        Err(_) => String::from_utf8_lossy(&bytes[..used]).into_js(ctx)?,
    };
    let pair = Array::new(ctx.clone())?;
    pair.set(0, text)?;
    pair.set(1, used)?;
    Ok(pair.into_value())
}

fn random(ctx: &Ctx<'_>, count: usize) -> rquickjs::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| Exception::throw_message(ctx, "the system has no random numbers"))?;
    Ok(bytes)
}

/// A random UUID, version 4.
fn uuid(ctx: &Ctx<'_>) -> rquickjs::Result<String> {
    let mut bytes = random(ctx, 16)?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}
