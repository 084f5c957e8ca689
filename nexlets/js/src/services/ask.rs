//! The host services in their asynchronous form: one function that takes what to do by name and
//! gives a promise.

use std::rc::Rc;

use bytes::Bytes;
use nex_functions::{
    Change, Changes, Entry, Gather, HttpRequest, HttpResponse, ListedObjects, ObjectInfo, Question,
    ServiceError, Watched,
};
use rquickjs::{Array, Ctx, Error, IntoJs as _, Object, Persistent, Value};

use super::{Arguments, Host, array, ended, fill, http, info, infos, number, undefined};
use crate::events::Waiting;

/// What services answer.
pub(crate) enum Answer {
    Nothing,
    Bytes(Bytes),
    Number(u64),
    Entry(Entry),
    Names(Vec<String>),
    Answers(Vec<Bytes>),
    Info(ObjectInfo),
    Infos(ListedObjects),
    Changes(Changes),
    Change(Change),
    /// With the method that was called.
    Http(HttpResponse, &'static str),
    /// As `fetch` wants it.
    Fetched(HttpResponse),
}

/// What can be asked for, as `nex.js` and `fetch.js` name it.
const NAMES: [&str; 24] = [
    "publish",
    "request",
    "requestMany",
    "kv.get",
    "kv.entry",
    "kv.set",
    "kv.put",
    "kv.create",
    "kv.update",
    "kv.delete",
    "kv.keys",
    "kv.watch",
    "kv.change",
    "objects.get",
    "objects.put",
    "objects.info",
    "objects.delete",
    "objects.list",
    "http.get",
    "http.post",
    "http.put",
    "http.patch",
    "http.delete",
    "http.head",
];

/// How the names of methods of a bucket begin.
const BUCKETS: [&str; 2] = ["kv.", "objects."];

/// `ask(error, name, ...arguments)`: a promise. The error is for a refusal, and was made by the
/// caller so that it has its place.
pub(super) fn ask<'js>(host: &Rc<Host>, given: &Arguments<'js>) -> rquickjs::Result<Value<'js>> {
    let ctx = given.ctx();
    let error = given.object(0)?;
    let (promise, resolve, reject) = ctx.promise()?;
    let name = given.text(1, "what to do")?;
    let known = NAMES.into_iter().find(|known| *known == name);
    // The bucket's name belongs to the object that the method is of.
    let of_bucket = known.is_some_and(|name| BUCKETS.iter().any(|kind| name.starts_with(kind)));
    let rest = Arguments::new(
        ctx.clone(),
        known.unwrap_or("fetch"),
        given.from(2).to_vec(),
    )
    .after_own(usize::from(of_bucket));
    let Some(task) = host.tasks.current() else {
        fill(&error, &ended())?;
        reject.call::<_, ()>((error,))?;
        return Ok(promise.into_value());
    };
    let question = match known {
        Some(name) => question(host, name, &rest),
        None => fetch(host, name, &rest),
    };
    let question = match question {
        Ok(question) => question,
        Err(Error::Exception) if !task.check() => {
            reject.call::<_, ()>((ctx.catch(),))?;
            return Ok(promise.into_value());
        }
        Err(error) => return Err(error),
    };
    let waiting = Waiting {
        task,
        resolve: Persistent::save(ctx, resolve),
        reject: Persistent::save(ctx, reject),
        error: Persistent::save(ctx, error),
        idle: known == Some("kv.change"),
    };
    match host.events.ask(question, waiting) {
        Ok(id) => {
            if known.is_none()
                && let Ok(call) = rest.object(4)
            {
                call.set("id", number(ctx, id.0)?)?;
            }
        }
        Err(refused) => {
            let (waiting, refused) = *refused;
            answered(host, ctx, waiting, Err(refused))?;
        }
    }
    Ok(promise.into_value())
}

/// Settles the promise of one who waits.
pub(crate) fn answered(
    host: &Host,
    ctx: &Ctx<'_>,
    waiting: Waiting,
    answer: Result<Answer, ServiceError>,
) -> rquickjs::Result<()> {
    let answer = match answer {
        Ok(Answer::Infos(listed)) => {
            host.warn_of_unreadable(&listed);
            Ok(Answer::Infos(listed))
        }
        Ok(Answer::Changes(changes)) => {
            let watch = host.events.watch(&waiting.task, changes);
            watch.map(Answer::Number)
        }
        other => other,
    };
    match answer {
        Ok(answer) => {
            let resolve = waiting.resolve.restore(ctx)?;
            resolve.call::<_, ()>((answer.into_value(ctx)?,))
        }
        Err(refused) => refuse(ctx, waiting, &refused),
    }
}

/// Rejects the promise of one who waits.
pub(crate) fn refuse(
    ctx: &Ctx<'_>,
    waiting: Waiting,
    refused: &ServiceError,
) -> rquickjs::Result<()> {
    let error = waiting.error.restore(ctx)?;
    fill(&error, refused)?;
    waiting.reject.restore(ctx)?.call::<_, ()>((error,))
}

fn question<'js>(
    host: &Host,
    name: &'static str,
    given: &Arguments<'js>,
) -> rquickjs::Result<Question<Answer>> {
    if name.starts_with("kv.") {
        return kv(host, name, given);
    }
    let services = host.services();
    let nothing = |()| Answer::Nothing;
    let bucket = || given.text(0, "the name of a bucket");
    let object = || given.text(1, "the name of an object");
    let subject = || given.text(0, "a subject");
    #[cfg(test)]
    if let ("request", Some(fake)) = (name, &*host.fake.borrow()) {
        return Ok(fake(&services, &subject()?).map(Answer::Bytes));
    }
    Ok(match name {
        "publish" => services.publish(subject()?, given.payload(1)?).map(nothing),
        "request" => services
            .request(subject()?, given.payload(1)?)
            .map(Answer::Bytes),
        "requestMany" => {
            let gather = gather(given)?;
            let asked = services.request_many(subject()?, given.payload(1)?, gather);
            asked.map(Answer::Answers)
        }
        "objects.get" => services.object(bucket()?, object()?).map(Answer::Bytes),
        "objects.put" => {
            let put = services.object_put(bucket()?, object()?, given.bytes(2)?);
            put.map(Answer::Info)
        }
        "objects.info" => services.object_info(bucket()?, object()?).map(Answer::Info),
        "objects.delete" => services.object_delete(bucket()?, object()?).map(nothing),
        "objects.list" => services.object_list(bucket()?).map(Answer::Infos),
        http => {
            let method = http.strip_prefix("http.").unwrap_or(http);
            let request = http::request(method, given)?;
            services
                .http(request)
                .map(move |response| Answer::Http(response, method))
        }
    })
}

fn kv<'js>(
    host: &Host,
    name: &'static str,
    given: &Arguments<'js>,
) -> rquickjs::Result<Question<Answer>> {
    let services = host.services();
    if name == "kv.change" {
        let changes = host.events.changes(given.number(0, "a watch")?);
        let changes = changes.ok_or_else(|| given.wrong(0, "a watch that is open"))?;
        return Ok(services.kv_change(changes).map(Answer::Change));
    }
    let bucket = given.text(0, "the name of a bucket")?;
    if name == "kv.keys" {
        return Ok(services.kv_keys(bucket).map(Answer::Names));
    }
    let key = given.text(1, "a key")?;
    Ok(match name {
        "kv.get" => services
            .kv_entry(bucket, key)
            .map(|entry| Answer::Bytes(entry.value)),
        "kv.entry" => services.kv_entry(bucket, key).map(Answer::Entry),
        "kv.create" => services
            .kv_create(bucket, key, given.bytes(2)?)
            .map(Answer::Number),
        "kv.set" => services
            .kv_put(bucket, key, given.bytes(2)?)
            .map(|_| Answer::Nothing),
        "kv.put" => services
            .kv_put(bucket, key, given.bytes(2)?)
            .map(Answer::Number),
        "kv.update" => {
            let (value, revision) = (given.bytes(2)?, given.number(3, "a revision")?);
            services
                .kv_update(bucket, key, value, revision)
                .map(Answer::Number)
        }
        "kv.delete" => services.kv_delete(bucket, key).map(|()| Answer::Nothing),
        _watch => {
            let watched = Watched {
                keys: key,
                from_present: given.value(2).and_then(|value| value.as_bool()) != Some(true),
            };
            services.kv_watch(bucket, watched).map(Answer::Changes)
        }
    })
}

/// `(method, url, headers, body, call)`, checked by `fetch.js`.
fn fetch<'js>(
    host: &Host,
    _name: String,
    given: &Arguments<'js>,
) -> rquickjs::Result<Question<Answer>> {
    let request = HttpRequest {
        method: given.text(0, "a method")?,
        url: given.text(1, "a URL")?,
        query: Vec::new(),
        headers: given.list(2, "pairs of names and values")?,
        body: given.payload(3)?,
    };
    Ok(host.services().http(request).map(Answer::Fetched))
}

/// The options of `requestMany`.
pub(super) fn gather(given: &Arguments<'_>) -> rquickjs::Result<Gather> {
    let mut gather = Gather::default();
    if let Some(options) = given.options(2)? {
        gather.max = options.count("max")?.unwrap_or(gather.max);
        gather.timeout = options.millis("timeout")?.unwrap_or(gather.timeout);
        gather.stall = options.millis("stall")?.unwrap_or(gather.stall);
    }
    Ok(gather)
}

impl Answer {
    fn into_value<'js>(self, ctx: &Ctx<'js>) -> rquickjs::Result<Value<'js>> {
        match self {
            Self::Nothing | Self::Changes(_) => Ok(undefined(ctx)),
            Self::Bytes(bytes) => array(ctx, &bytes),
            Self::Number(value) => number(ctx, value),
            Self::Entry(found) => entry(ctx, &found),
            Self::Names(names) => names.into_js(ctx),
            Self::Answers(answers) => {
                let arrays = answers.iter().map(|answer| array(ctx, answer));
                arrays.collect::<rquickjs::Result<Vec<_>>>()?.into_js(ctx)
            }
            Self::Info(one) => info(ctx, one),
            Self::Infos(listed) => infos(ctx, listed),
            Self::Change(change) => {
                let object = Object::new(ctx.clone())?;
                let operation = if change.value.is_some() {
                    "put"
                } else {
                    "delete"
                };
                object.set("key", change.key)?;
                let value = change.value.map(|value| array(ctx, &value)).transpose()?;
                object.set("value", value)?;
                object.set("revision", number(ctx, change.revision)?)?;
                object.set("operation", operation)?;
                Ok(object.into_value())
            }
            Self::Http(response, method) => http::response(ctx, method, &response),
            Self::Fetched(response) => {
                let object = Object::new(ctx.clone())?;
                object.set("status", response.status)?;
                object.set("url", response.url)?;
                object.set("headers", pairs(ctx, &response.headers)?)?;
                object.set("body", array(ctx, &response.body)?)?;
                Ok(object.into_value())
            }
        }
    }
}

/// `{ value, revision }`.
pub(super) fn entry<'js>(ctx: &Ctx<'js>, entry: &Entry) -> rquickjs::Result<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("value", array(ctx, &entry.value)?)?;
    object.set("revision", number(ctx, entry.revision)?)?;
    Ok(object.into_value())
}

/// Pairs of names and values, as an array of arrays.
pub(crate) fn pairs<'js, N: AsRef<str>, V: AsRef<str>>(
    ctx: &Ctx<'js>,
    pairs: &[(N, V)],
) -> rquickjs::Result<Array<'js>> {
    let list = Array::new(ctx.clone())?;
    for (index, (name, value)) in pairs.iter().enumerate() {
        let pair = Array::new(ctx.clone())?;
        pair.set(0, name.as_ref())?;
        pair.set(1, value.as_ref())?;
        list.set(index, pair)?;
    }
    Ok(list)
}
