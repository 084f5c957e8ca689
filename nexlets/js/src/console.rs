//! The `console` of a function: one line of its log per call, with the invocation that it is of.

use std::rc::Rc;

use nex_protocol::LogStream;
use rquickjs::{Coerced, Ctx, FromJs as _, Function, Object, Value, function::Rest};

use crate::{bytes::of_typed_array, failure::describe, result::text, services::Host};

/// How many bytes of a typed array are shown.
const SHOWN_BYTES: usize = 32;
/// Length of a line, in bytes, after which further values are left out: the log cuts it shorter.
const ENOUGH_BYTES: usize = 16 * 1024;

/// Puts `console` among the globals.
pub(crate) fn install(ctx: &Ctx<'_>, host: &Rc<Host>) -> rquickjs::Result<()> {
    let object = Object::new(ctx.clone())?;
    for (name, stream) in [
        ("log", LogStream::Stdout),
        ("info", LogStream::Stdout),
        ("debug", LogStream::Stdout),
        ("warn", LogStream::Stderr),
        ("error", LogStream::Stderr),
    ] {
        let host = Rc::clone(host);
        let write = move |values: Rest<Value<'_>>| {
            host.console().line(stream, &show_all(&values));
        };
        object.set(name, Function::new(ctx.clone(), write)?.with_name(name)?)?;
    }
    ctx.globals().set("console", object)
}

/// Values on one line. Memory for it is not the function's, so it has a bound of its own.
fn show_all(values: &[Value<'_>]) -> String {
    let mut line = String::new();
    for (number, value) in values.iter().enumerate() {
        if line.len() > ENOUGH_BYTES {
            break;
        }
        if number > 0 {
            line.push(' ');
        }
        line.push_str(&show(value));
    }
    line
}

/// A value for people: strings as they are, objects as JSON.
pub(crate) fn show(value: &Value<'_>) -> String {
    match try_show(value) {
        Ok(shown) => shown,
        Err(_) => {
            // The exception is this value's own and must not surface in the function.
            value.ctx().catch();
            format!("[{}]", value.type_name())
        }
    }
}

fn try_show(value: &Value<'_>) -> rquickjs::Result<String> {
    let ctx = value.ctx();
    if let Some(string) = value.as_string() {
        return text(string);
    }
    if value.is_error() {
        return Ok(describe(value));
    }
    if let Some(object) = value.as_object() {
        if let Some(bytes) = of_typed_array(object) {
            let more = if bytes.len() > SHOWN_BYTES {
                " …"
            } else {
                ""
            };
            let shown: Vec<_> = bytes
                .iter()
                .take(SHOWN_BYTES)
                .map(ToString::to_string)
                .collect();
            return Ok(format!("bytes({})[{}{more}]", bytes.len(), shown.join(" ")));
        }
        if !object.is_function() {
            match ctx.json_stringify(value.clone()) {
                Ok(Some(json)) => return text(&json),
                Ok(None) => {}
                // A cycle, or a BigInt somewhere in it.
                Err(_) => drop(ctx.catch()),
            }
        }
    }
    if let Some(symbol) = value.as_symbol() {
        let description: Option<Coerced<String>> = symbol.description()?.get()?;
        let description = description.map_or_else(String::new, |text| text.0);
        return Ok(format!("Symbol({description})"));
    }
    Ok(Coerced::<String>::from_js(ctx, value.clone())?.0)
}
