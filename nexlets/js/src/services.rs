//! The host services as a function sees them: `kv`, `objectStore`, `http` and `messaging` among its
//! globals, all synchronous, and the same [asynchronous](ask) for `nex` and `fetch`.
//!
//! A question belongs to the task that asks: its deadline, its trace, its budget. Code of an invocation
//! that is over gets an error for whatever it asks.
//!
//! Closures here hold no values of JavaScript: the runtime could not free a circle through them.

mod arguments;
mod ask;
mod http;

use std::{rc::Rc, task::Waker, time::Instant};

use bytes::Bytes;
use nex_functions::{
    CallId, Console, Invocation, InvocationKey, ListedObjects, ObjectInfo, Question, ServiceCode,
    ServiceError, Services,
};
use nex_protocol::LogStream;
use rquickjs::{Ctx, Exception, Function, IntoJs as _, Object, TypedArray, Value, function::Rest};

pub(crate) use self::{
    arguments::Arguments,
    ask::{Answer, answered, pairs, refuse},
};
use crate::{
    events::{Events, Waiting},
    task::{Task, Tasks},
};

/// Puts the services among the globals.
pub(crate) fn install<'js>(ctx: &Ctx<'js>, host: &Rc<Host>) -> rquickjs::Result<()> {
    let globals = ctx.globals();
    host.method(&globals, "kv", |host, arguments| {
        let bucket = arguments.text(0, "the name of a bucket")?;
        Ok(kv(host, arguments.ctx(), bucket)?.into_value())
    })?;
    host.method(&globals, "objectStore", |host, arguments| {
        let bucket = arguments.text(0, "the name of a bucket")?;
        Ok(object_store(host, arguments.ctx(), bucket)?.into_value())
    })?;
    globals.set("http", http::object(host, ctx)?)?;
    globals.set("messaging", messaging(host, ctx)?)
}

/// Puts the asynchronous services among the functions of the host.
pub(crate) fn install_async<'js>(object: &Object<'js>, host: &Rc<Host>) -> rquickjs::Result<()> {
    host.method(object, "ask", ask::ask)?;
    host.method(object, "cancel", |host, arguments| {
        if let Ok(id) = arguments.number(0, "a call") {
            host.events.cancel(CallId(id));
        }
        Ok(undefined(arguments.ctx()))
    })?;
    host.method(object, "unwatch", |host, arguments| {
        host.events.unwatch(arguments.number(0, "a watch")?);
        Ok(undefined(arguments.ctx()))
    })
}

/// The text of the `code` of an error that code gets whose invocation is over.
pub(crate) const ENDED: &str = ServiceCode::Ended.as_str();

/// What all services of one runtime work with.
pub(crate) struct Host {
    /// The services and the log of no invocation.
    services: Rc<Services>,
    console: Rc<Console>,
    pub(crate) tasks: Rc<Tasks>,
    /// The open calls and timers of the invocations in flight.
    pub(crate) events: Events,
    /// Answers requests in place of NATS.
    #[cfg(test)]
    pub(crate) fake: std::cell::RefCell<Option<Fake>>,
}

/// Makes a question of the services of whoever asks and the subject.
#[cfg(test)]
pub(crate) type Fake = Box<dyn Fn(&Services, &str) -> Question<Bytes>>;

impl Host {
    pub(crate) fn new(
        services: Services,
        console: Console,
        tasks: Rc<Tasks>,
        waker: Waker,
    ) -> Self {
        Self {
            services: Rc::new(services),
            console: Rc::new(console),
            tasks,
            events: Events::new(waker),
            #[cfg(test)]
            fake: std::cell::RefCell::default(),
        }
    }

    /// Begins the task of the set-up.
    pub(crate) fn open_setup(&self, deadline: Instant, console: &Console) -> Rc<Task> {
        let (services, console) = (Rc::clone(&self.services), Rc::new(console.clone()));
        self.tasks.open(None, deadline, services, console)
    }

    /// Begins the task of an invocation.
    pub(crate) fn open(&self, key: InvocationKey, invocation: &Invocation) -> Rc<Task> {
        let (services, console) = match invocation.headers.is_empty() {
            true => (Rc::clone(&self.services), Rc::clone(&self.console)),
            false => (
                Rc::new(self.services.for_invocation(invocation)),
                Rc::new(self.console.for_invocation(invocation)),
            ),
        };
        let key = Some(key);
        self.tasks.open(key, invocation.deadline, services, console)
    }

    /// Ends a task, and returns who waits for answers to it.
    pub(crate) fn close(&self, task: &Rc<Task>) -> Vec<Waiting> {
        let has_console = !Rc::ptr_eq(&task.console, &self.console);
        self.tasks.close(task, has_console);
        self.events.close(task)
    }

    /// The services of the invocation on whose behalf code runs.
    pub(crate) fn services(&self) -> Rc<Services> {
        let task = self.tasks.current();
        task.map_or_else(
            || Rc::clone(&self.services),
            |task| Rc::clone(&task.services),
        )
    }

    /// The log of the invocation on whose behalf code runs.
    pub(crate) fn console(&self) -> Rc<Console> {
        self.console_of(self.tasks.current_id())
    }

    /// The log of the invocation of a task, also of one that is over.
    pub(crate) fn console_of(&self, task: u64) -> Rc<Console> {
        let console = self.tasks.console(task);
        console.unwrap_or_else(|| Rc::clone(&self.console))
    }

    /// Gives an object a function.
    pub(crate) fn method<'js>(
        self: &Rc<Self>,
        object: &Object<'js>,
        name: &'static str,
        run: impl Fn(&Rc<Self>, &Arguments<'js>) -> rquickjs::Result<Value<'js>> + 'js,
    ) -> rquickjs::Result<()> {
        let host = Rc::clone(self);
        let call = move |ctx: Ctx<'js>, values: Rest<Value<'js>>| {
            run(&host, &Arguments::new(ctx, name, values.0))
        };
        let function = Function::new(object.ctx().clone(), call)?.with_name(name)?;
        object.set(name, function)
    }

    /// Writes to the function's log that objects are left out of a list.
    fn warn_of_unreadable(&self, listed: &ListedObjects) {
        if let Some(warning) = listed.warning() {
            self.console().line(LogStream::Stderr, &warning);
        }
    }

    /// Waits for the answer of a service; its error is an exception with a `code`.
    fn answer<T: Send + 'static>(
        &self,
        ctx: &Ctx<'_>,
        question: Question<T>,
    ) -> rquickjs::Result<T> {
        let Some(task) = self.tasks.current() else {
            return Err(throw(ctx, &ended()));
        };
        let answer = question.wait(task.deadline);
        // After the deadline no code is to run, also not what catches exceptions.
        task.check();
        answer.map_err(|error| throw(ctx, &error))
    }
}

/// The error of code whose invocation is over.
pub(crate) fn ended() -> ServiceError {
    let text = "the invocation that asked for this is over";
    ServiceError::new(ServiceCode::Ended, text)
}

/// Makes an error say what a service says.
fn fill(error: &Object<'_>, refused: &ServiceError) -> rquickjs::Result<()> {
    error.set("message", refused.text.as_str())?;
    error.set("code", refused.code.as_str())
}

/// Throws an error of a service.
pub(crate) fn throw(ctx: &Ctx<'_>, error: &ServiceError) -> rquickjs::Error {
    let thrown = Exception::from_message(ctx.clone(), &error.text).and_then(|exception| {
        exception.as_object().set("code", error.code.as_str())?;
        Ok(exception.throw())
    });
    let (Ok(error) | Err(error)) = thrown;
    error
}

/// Bytes as a `Uint8Array` of the function's own.
pub(crate) fn array<'js>(ctx: &Ctx<'js>, bytes: &Bytes) -> rquickjs::Result<Value<'js>> {
    Ok(TypedArray::<u8>::new_copy(ctx.clone(), bytes)?.into_value())
}

pub(crate) fn undefined<'js>(ctx: &Ctx<'js>) -> Value<'js> {
    Value::new_undefined(ctx.clone())
}

/// A number of the host. Revisions beyond 2^53 would not be exact; no bucket gets there.
fn number<'js>(ctx: &Ctx<'js>, number: u64) -> rquickjs::Result<Value<'js>> {
    (number as f64).into_js(ctx)
}

fn kv<'js>(host: &Rc<Host>, ctx: &Ctx<'js>, bucket: String) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let bucket: Rc<str> = bucket.into();
    let key = "a key";

    let name = Rc::clone(&bucket);
    host.method(&object, "get", move |host, arguments| {
        let ctx = arguments.ctx();
        let (bucket, key) = (name.to_string(), arguments.text(0, key)?);
        let entry = host.answer(ctx, host.services().kv_entry(bucket, key))?;
        array(ctx, &entry.value)
    })?;

    let name = Rc::clone(&bucket);
    host.method(&object, "entry", move |host, arguments| {
        let ctx = arguments.ctx();
        let (bucket, key) = (name.to_string(), arguments.text(0, key)?);
        let entry = host.answer(ctx, host.services().kv_entry(bucket, key))?;
        ask::entry(ctx, &entry)
    })?;

    for method in ["set", "put", "create"] {
        let name = Rc::clone(&bucket);
        host.method(&object, method, move |host, arguments| {
            let ctx = arguments.ctx();
            let (bucket, key) = (name.to_string(), arguments.text(0, key)?);
            let value = arguments.bytes(1)?;
            let revision = match method {
                "create" => host.services().kv_create(bucket, key, value),
                _ => host.services().kv_put(bucket, key, value),
            };
            let revision = host.answer(ctx, revision)?;
            match method {
                "set" => Ok(undefined(ctx)),
                _ => number(ctx, revision),
            }
        })?;
    }

    let name = Rc::clone(&bucket);
    host.method(&object, "update", move |host, arguments| {
        let ctx = arguments.ctx();
        let (bucket, key) = (name.to_string(), arguments.text(0, key)?);
        let (value, revision) = (arguments.bytes(1)?, arguments.number(2, "a revision")?);
        let updated = host.services().kv_update(bucket, key, value, revision);
        number(ctx, host.answer(ctx, updated)?)
    })?;

    let name = Rc::clone(&bucket);
    host.method(&object, "delete", move |host, arguments| {
        let ctx = arguments.ctx();
        let (bucket, key) = (name.to_string(), arguments.text(0, key)?);
        host.answer(ctx, host.services().kv_delete(bucket, key))?;
        Ok(undefined(ctx))
    })?;

    host.method(&object, "keys", move |host, arguments| {
        let ctx = arguments.ctx();
        let keys = host.services().kv_keys(bucket.to_string());
        host.answer(ctx, keys)?.into_js(ctx)
    })?;
    Ok(object)
}

fn object_store<'js>(
    host: &Rc<Host>,
    ctx: &Ctx<'js>,
    bucket: String,
) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let bucket: Rc<str> = bucket.into();
    let what = "the name of an object";

    let name = Rc::clone(&bucket);
    host.method(&object, "get", move |host, arguments| {
        let ctx = arguments.ctx();
        let (bucket, object) = (name.to_string(), arguments.text(0, what)?);
        array(
            ctx,
            &host.answer(ctx, host.services().object(bucket, object))?,
        )
    })?;

    let name = Rc::clone(&bucket);
    host.method(&object, "put", move |host, arguments| {
        let ctx = arguments.ctx();
        let (bucket, object) = (name.to_string(), arguments.text(0, what)?);
        let stored = host
            .services
            .object_put(bucket, object, arguments.bytes(1)?);
        info(ctx, host.answer(ctx, stored)?)
    })?;

    let name = Rc::clone(&bucket);
    host.method(&object, "info", move |host, arguments| {
        let ctx = arguments.ctx();
        let (bucket, object) = (name.to_string(), arguments.text(0, what)?);
        info(
            ctx,
            host.answer(ctx, host.services().object_info(bucket, object))?,
        )
    })?;

    let name = Rc::clone(&bucket);
    host.method(&object, "delete", move |host, arguments| {
        let ctx = arguments.ctx();
        let (bucket, object) = (name.to_string(), arguments.text(0, what)?);
        host.answer(ctx, host.services().object_delete(bucket, object))?;
        Ok(undefined(ctx))
    })?;

    host.method(&object, "list", move |host, arguments| {
        let ctx = arguments.ctx();
        let listed = host.services().object_list(bucket.to_string());
        let listed = host.answer(ctx, listed)?;
        host.warn_of_unreadable(&listed);
        infos(ctx, listed)
    })?;
    Ok(object)
}

/// A list of objects, with the number of those that are left out.
fn infos<'js>(ctx: &Ctx<'js>, listed: ListedObjects) -> rquickjs::Result<Value<'js>> {
    let objects = listed.objects.into_iter();
    let objects: rquickjs::Result<Vec<_>> = objects.map(|object| info(ctx, object)).collect();
    let array = objects?.into_js(ctx)?;
    if let Some(array) = array.as_object() {
        array.set("unreadable", listed.unreadable as f64)?;
    }
    Ok(array)
}

/// What is known about an object, under the names of NATS.
fn info<'js>(ctx: &Ctx<'js>, info: ObjectInfo) -> rquickjs::Result<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("name", info.name)?;
    object.set("bucket", info.bucket)?;
    object.set("nuid", info.nuid)?;
    object.set("size", info.size as f64)?;
    object.set("mtime", info.modified)?;
    object.set("chunks", info.chunks as f64)?;
    object.set("digest", info.digest)?;
    Ok(object.into_value())
}

fn messaging<'js>(host: &Rc<Host>, ctx: &Ctx<'js>) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let what = "a subject";

    host.method(&object, "publish", move |host, arguments| {
        let ctx = arguments.ctx();
        let (subject, payload) = (arguments.text(0, what)?, arguments.payload(1)?);
        let published = host.services().publish(subject, payload);
        host.answer(ctx, published)?;
        Ok(undefined(ctx))
    })?;

    host.method(&object, "request", move |host, arguments| {
        let ctx = arguments.ctx();
        let (subject, payload) = (arguments.text(0, what)?, arguments.payload(1)?);
        let answer = host.services().request(subject, payload);
        array(ctx, &host.answer(ctx, answer)?)
    })?;

    host.method(&object, "requestMany", move |host, arguments| {
        let ctx = arguments.ctx();
        let (subject, payload) = (arguments.text(0, what)?, arguments.payload(1)?);
        let gather = ask::gather(arguments)?;
        let answers = host.services().request_many(subject, payload, gather);
        let answers = host.answer(ctx, answers)?;
        let arrays: rquickjs::Result<Vec<_>> =
            answers.iter().map(|answer| array(ctx, answer)).collect();
        arrays?.into_js(ctx)
    })?;
    Ok(object)
}
