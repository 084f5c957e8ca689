//! What a function passes to a service.

use std::time::Duration;

use bytes::Bytes;
use nex_functions::{ServiceCode, ServiceError};
use rquickjs::{Array, Coerced, Ctx, FromJs as _, Object, Value};

use super::throw;
use crate::{
    bytes::of_typed_array,
    result::{of_buffer, text},
};

/// The arguments of one call.
pub(crate) struct Arguments<'js> {
    ctx: Ctx<'js>,
    function: &'static str,
    values: Vec<Value<'js>>,
    /// How many the function itself was given before its caller's.
    own: usize,
}

/// An argument with named values.
pub(crate) struct Options<'a, 'js> {
    arguments: &'a Arguments<'js>,
    object: Object<'js>,
}

impl<'js> Arguments<'js> {
    pub(crate) fn new(ctx: Ctx<'js>, function: &'static str, values: Vec<Value<'js>>) -> Self {
        Self {
            ctx,
            function,
            values,
            own: 0,
        }
    }

    /// The same where the first of them were not passed by whoever made the call.
    pub(crate) fn after_own(self, own: usize) -> Self {
        Self { own, ..self }
    }

    pub(crate) fn ctx(&self) -> &Ctx<'js> {
        &self.ctx
    }

    /// All from `index` on.
    pub(crate) fn from(&self, index: usize) -> &[Value<'js>] {
        self.values.get(index..).unwrap_or_default()
    }

    /// The one at `index`, if there is one.
    pub(crate) fn value(&self, index: usize) -> Option<&Value<'js>> {
        self.values.get(index)
    }

    /// An object.
    pub(crate) fn object(&self, index: usize) -> rquickjs::Result<Object<'js>> {
        let object = self.values.get(index).and_then(Value::as_object);
        object
            .cloned()
            .ok_or_else(|| self.wrong(index, "an object"))
    }

    /// An array of pairs of strings.
    pub(crate) fn list(&self, index: usize, what: &str) -> rquickjs::Result<Vec<(String, String)>> {
        let list = self.values.get(index).and_then(Value::as_array);
        let list = list.ok_or_else(|| self.wrong(index, what))?;
        let pairs = list.iter::<Array<'js>>().map(|pair| {
            let pair = pair?;
            Ok((pair.get(0)?, pair.get(1)?))
        });
        pairs.collect()
    }

    /// A string, or a number as one.
    pub(crate) fn text(&self, index: usize, what: &str) -> rquickjs::Result<String> {
        match self.values.get(index) {
            Some(value) if value.is_string() || value.is_number() => self.to_text(value),
            _ => Err(self.wrong(index, &format!("{what} as a string"))),
        }
    }

    /// Bytes, or a string as UTF-8.
    pub(crate) fn bytes(&self, index: usize) -> rquickjs::Result<Bytes> {
        let value = self.values.get(index);
        match value.map(|value| self.to_bytes(value)).transpose()? {
            Some(Some(bytes)) => Ok(bytes),
            _ => Err(self.wrong(index, "a `Uint8Array` or a string")),
        }
    }

    /// Bytes, a string as UTF-8, or nothing.
    pub(crate) fn payload(&self, index: usize) -> rquickjs::Result<Bytes> {
        match self.values.get(index) {
            None => Ok(Bytes::new()),
            Some(value) if value.is_undefined() => Ok(Bytes::new()),
            Some(_) => self.bytes(index),
        }
    }

    /// A whole number.
    pub(crate) fn number(&self, index: usize, what: &str) -> rquickjs::Result<u64> {
        let number = self.values.get(index).and_then(Value::as_number);
        let number = number.and_then(whole);
        number.ok_or_else(|| self.wrong(index, &format!("{what} as a whole number")))
    }

    /// An object with named values, if there is one.
    pub(crate) fn options(&self, index: usize) -> rquickjs::Result<Option<Options<'_, 'js>>> {
        match self.values.get(index) {
            None => Ok(None),
            Some(value) if value.is_undefined() || value.is_null() => Ok(None),
            Some(value) => match value.as_object() {
                Some(object) => Ok(Some(self.named(object.clone()))),
                None => Err(self.wrong(index, "an object")),
            },
        }
    }

    pub(crate) fn named(&self, object: Object<'js>) -> Options<'_, 'js> {
        Options {
            arguments: self,
            object,
        }
    }

    /// The bytes of a value that has some.
    pub(crate) fn to_bytes(&self, value: &Value<'js>) -> rquickjs::Result<Option<Bytes>> {
        if let Some(string) = value.as_string() {
            return Ok(Some(text(string)?.into()));
        }
        let Some(object) = value.as_object() else {
            return Ok(None);
        };
        match of_typed_array(object) {
            Some(bytes) => Ok(Some(bytes)),
            None => of_buffer(&self.ctx, object),
        }
    }

    fn to_text(&self, value: &Value<'js>) -> rquickjs::Result<String> {
        match value.as_string() {
            Some(string) => text(string),
            None => Ok(Coerced::<String>::from_js(&self.ctx, value.clone())?.0),
        }
    }

    /// Throws that an argument is none.
    pub(crate) fn wrong(&self, index: usize, want: &str) -> rquickjs::Error {
        match index.checked_sub(self.own) {
            Some(index) => self.bad(&format!("argument {}: want {want}", index + 1)),
            None => self.bad(&format!("want {want}")),
        }
    }

    fn bad(&self, problem: &str) -> rquickjs::Error {
        let text = format!("`{}`: {problem}", self.function);
        throw(&self.ctx, &ServiceError::new(ServiceCode::BadRequest, text))
    }
}

impl Options<'_, '_> {
    /// A whole number.
    pub(crate) fn count(&self, name: &str) -> rquickjs::Result<Option<usize>> {
        let value: Value<'_> = self.object.get(name)?;
        if value.is_undefined() {
            return Ok(None);
        }
        let count = value.as_number().and_then(whole);
        let count = count.and_then(|count| usize::try_from(count).ok());
        count.map(Some).ok_or_else(|| {
            let problem = format!("`{name}`: want a whole number");
            self.arguments.bad(&problem)
        })
    }

    /// A time in milliseconds.
    pub(crate) fn millis(&self, name: &str) -> rquickjs::Result<Option<Duration>> {
        let millis = self.count(name)?;
        Ok(millis.map(|millis| Duration::from_millis(millis as u64)))
    }

    /// Names and values: of an object, or of an array where a name has several.
    pub(crate) fn pairs(&self, name: &str) -> rquickjs::Result<Vec<(String, String)>> {
        let value: Value<'_> = self.object.get(name)?;
        if value.is_undefined() {
            return Ok(Vec::new());
        }
        let Some(object) = value.as_object() else {
            return Err(self.arguments.bad(&format!("`{name}`: want an object")));
        };
        let mut pairs = Vec::new();
        for property in object.props::<String, Value<'_>>() {
            let (key, value) = property?;
            match value.as_array().map(Array::iter::<Coerced<String>>) {
                Some(values) => {
                    for value in values {
                        pairs.push((key.clone(), value?.0));
                    }
                }
                None => {
                    let value = Coerced::<String>::from_js(&self.arguments.ctx, value)?;
                    pairs.push((key, value.0));
                }
            }
        }
        Ok(pairs)
    }
}

/// A number without a fraction, as far as those are exact.
fn whole(number: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
}
