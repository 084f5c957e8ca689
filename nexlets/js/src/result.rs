//! What a function returned, as the body of a reply.

use bytes::Bytes;
use rquickjs::{ArrayBuffer, Ctx, Function, Object, String as JsString, Value, function::This};

use crate::bytes::{of_array_buffer, of_typed_array};

/// Why a value has no bytes.
#[derive(Debug)]
pub(crate) enum Unsendable {
    /// JavaScript threw meanwhile: the exception is pending.
    Exception(rquickjs::Error),
    /// It is of a kind that cannot be sent.
    Kind(&'static str),
}

impl From<rquickjs::Error> for Unsendable {
    fn from(error: rquickjs::Error) -> Self {
        Self::Exception(error)
    }
}

/// The bytes of a result: those of a typed array or buffer, the UTF-8 of a string, nothing for
/// `undefined`, and the JSON of everything else.
pub(crate) fn to_bytes<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Bytes, Unsendable> {
    if value.is_undefined() {
        return Ok(Bytes::new());
    }
    if let Some(string) = value.as_string() {
        return Ok(text(string)?.into());
    }
    if let Some(object) = value.as_object() {
        if let Some(bytes) = of_typed_array(object) {
            return Ok(bytes);
        }
        if let Some(bytes) = of_buffer(ctx, object)? {
            return Ok(bytes);
        }
    }
    match ctx.json_stringify(value.clone())? {
        Some(json) => Ok(text(&json)?.into()),
        None => Err(Unsendable::Kind(value.type_name())),
    }
}

/// A string of JavaScript as one of Rust. Half surrogate pairs become `U+FFFD`.
pub(crate) fn text(string: &JsString<'_>) -> rquickjs::Result<String> {
    match string.to_string() {
        Err(rquickjs::Error::Utf8(_)) => {
            let class: Object<'_> = string.ctx().globals().get("String")?;
            let prototype: Object<'_> = class.get("prototype")?;
            let mend: Function<'_> = prototype.get("toWellFormed")?;
            let mended: JsString<'_> = mend.call((This(string.clone()),))?;
            mended.to_string()
        }
        other => other,
    }
}

/// The bytes of an `ArrayBuffer` or a `DataView`'s part of one.
pub(crate) fn of_buffer<'js>(
    ctx: &Ctx<'js>,
    object: &Object<'js>,
) -> rquickjs::Result<Option<Bytes>> {
    // Asking the library for a buffer that is none makes the engine throw, which costs more.
    let class: Value<'js> = ctx.globals().get("ArrayBuffer")?;
    if !object.is_instance_of(&class) {
        return Ok(None);
    }
    let Some(buffer) = ArrayBuffer::from_object(object.clone()) else {
        return Err(rquickjs::Error::Exception);
    };
    Ok(of_array_buffer(&buffer))
}
