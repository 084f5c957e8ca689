//! URLs as the web defines them, on the crate `url`.

use std::rc::Rc;

use rquickjs::{IntoJs as _, Object, Value};
use url::{Url, form_urlencoded, quirks};

use crate::services::{Host, pairs, undefined};

/// Puts its functions among those of the host.
pub(super) fn install<'js>(object: &Object<'js>, host: &Rc<Host>) -> rquickjs::Result<()> {
    host.method(object, "urlParse", |_host, given| {
        let url = given.text(0, "a URL")?;
        let parsed = match given.value(1).is_some_and(Value::is_string) {
            true => Url::parse(&given.text(1, "a URL")?).and_then(|base| base.join(&url)),
            false => Url::parse(&url),
        };
        match parsed {
            Ok(url) => parts(&url).into_js(given.ctx()),
            Err(_) => Ok(undefined(given.ctx())),
        }
    })?;
    host.method(object, "urlSet", |_host, given| {
        let part = given.text(1, "a part")?;
        let value = given.text(2, "a value")?;
        let url = Url::parse(&given.text(0, "a URL")?).ok();
        match url.and_then(|url| changed(url, &part, &value)) {
            Some(url) => parts(&url).into_js(given.ctx()),
            None => Ok(undefined(given.ctx())),
        }
    })?;
    host.method(object, "formParse", |_host, given| {
        let text = given.text(0, "a query")?;
        let parsed: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
        Ok(pairs(given.ctx(), &parsed)?.into_value())
    })?;
    host.method(object, "formText", |_host, given| {
        let pairs = given.list(0, "pairs of names and values")?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(pairs).finish().into_js(given.ctx())
    })
}

/// What `URL` shows, in the order in which `url.js` names it.
fn parts(url: &Url) -> Vec<String> {
    let parts = [
        quirks::href(url),
        &quirks::origin(url),
        quirks::protocol(url),
        quirks::username(url),
        quirks::password(url),
        quirks::host(url),
        quirks::hostname(url),
        quirks::port(url),
        quirks::pathname(url),
        quirks::search(url),
        quirks::hash(url),
    ];
    parts.map(ToOwned::to_owned).to_vec()
}

/// The URL with another part; `None` where that is none.
fn changed(mut url: Url, part: &str, value: &str) -> Option<Url> {
    let done = match part {
        "href" => quirks::set_href(&mut url, value).map_err(|_| ()),
        "protocol" => quirks::set_protocol(&mut url, value),
        "username" => quirks::set_username(&mut url, value),
        "password" => quirks::set_password(&mut url, value),
        "host" => quirks::set_host(&mut url, value),
        "hostname" => quirks::set_hostname(&mut url, value),
        "port" => quirks::set_port(&mut url, value),
        "pathname" => {
            quirks::set_pathname(&mut url, value);
            Ok(())
        }
        "search" => {
            quirks::set_search(&mut url, value);
            Ok(())
        }
        _hash => {
            quirks::set_hash(&mut url, value);
            Ok(())
        }
    };
    done.is_ok().then_some(url)
}
