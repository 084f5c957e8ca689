//! `http`: one function per method.

use std::rc::Rc;

use bytes::Bytes;
use nex_functions::{HttpRequest, HttpResponse};
use rquickjs::{Ctx, Object, Value};

use super::{Arguments, Host, array};

/// The methods, as the functions are called.
const METHODS: [&str; 6] = ["get", "post", "put", "patch", "delete", "head"];

/// The object of these functions.
pub(super) fn object<'js>(host: &Rc<Host>, ctx: &Ctx<'js>) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    for method in METHODS {
        host.method(&object, method, move |host, arguments| {
            let ctx = arguments.ctx();
            let request = request(method, arguments)?;
            let response = host.services().http(request);
            let response = host.answer(ctx, response)?;
            self::response(ctx, method, &response)
        })?;
    }
    Ok(object)
}

/// `(url[, body][, { headers, query }])`.
pub(super) fn request<'js>(
    method: &str,
    arguments: &Arguments<'js>,
) -> rquickjs::Result<HttpRequest> {
    let mut request = HttpRequest {
        method: method.to_ascii_uppercase(),
        url: arguments.text(0, "a URL")?,
        ..HttpRequest::default()
    };
    for (index, value) in arguments.from(1).iter().enumerate() {
        if value.is_undefined() || value.is_null() {
            continue;
        }
        if let Some(body) = arguments.to_bytes(value)? {
            request.body = body;
        } else if let Some(object) = value.as_object() {
            let options = arguments.named(object.clone());
            request.headers = options.pairs("headers")?;
            request.query = options.pairs("query")?;
        } else {
            let want = "a body as a `Uint8Array` or a string, or `{ headers, query }`";
            return Err(arguments.wrong(index + 1, want));
        }
    }
    Ok(request)
}

/// `{ status, headers, response, body }`: `response` is the body as text, none for `head`.
pub(super) fn response<'js>(
    ctx: &Ctx<'js>,
    method: &str,
    response: &HttpResponse,
) -> rquickjs::Result<Value<'js>> {
    let headers = Object::new(ctx.clone())?;
    for (name, value) in &response.headers {
        let name = canonical(name);
        let value = match headers.get::<_, Option<String>>(&name)? {
            Some(before) => format!("{before}, {value}"),
            None => value.clone(),
        };
        headers.set(name, value)?;
    }
    let object = Object::new(ctx.clone())?;
    object.set("status", response.status)?;
    object.set("headers", headers)?;
    if method != "head" {
        object.set("response", as_text(&response.body))?;
    }
    object.set("body", array(ctx, &response.body)?)?;
    Ok(object.into_value())
}

fn as_text(body: &Bytes) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// The name of a header as functions of older versions know it: `Content-Type`.
fn canonical(name: &str) -> String {
    let mut start = true;
    let letters = name.chars().map(|c| {
        let letter = match start {
            true => c.to_ascii_uppercase(),
            false => c,
        };
        start = c == '-';
        letter
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_headers_are_as_in_go() {
        for (name, expected) in [
            ("content-type", "Content-Type"),
            ("etag", "Etag"),
            ("x-a-b", "X-A-B"),
        ] {
            assert_eq!(canonical(name), expected);
        }
    }
}
