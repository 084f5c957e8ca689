//! The steps that `rquickjs` has no safe interface for, and the promise that an instance may move.
//!
//! All `unsafe` of this crate is here.
#![expect(
    unsafe_code,
    reason = "`rquickjs` offers neither tasks of jobs nor a runtime that moves between threads"
)]

use std::ptr;

use rquickjs::{Ctx, Error, qjs};

use crate::instance::Instance;

// SAFETY: an instance owns a QuickJS runtime and all that points into it. Its reference counts (`Rc` here,
// those of values in C) are not atomic, so all holders have to be on one thread at a time. They are: the
// fields of the instance are private to this crate and no method hands out a value of JavaScript or an
// `Rc`; the closures that the runtime holds are made by this crate and share their `Rc`s with the instance
// alone; and tasks on the I/O runtime are given wakers, channels, bytes and names, all of which are `Send`
// by themselves. `&mut` or ownership of the instance is needed for each of its methods that touches the
// runtime, and `Instance` is not `Sync`, so one thread at a time uses it. Neither QuickJS nor `rquickjs`
// keeps state in thread-locals. QuickJS measures its stack from a place that it keeps: `enter` moves that
// to the stack of the thread before any code runs, since `Context::with` does so only with the feature
// `parallel` of `rquickjs`. Dropping runs no JavaScript, so it needs no stack of its own.
unsafe impl Send for Instance {}

fn runtime(ctx: &Ctx<'_>) -> *mut qjs::JSRuntime {
    // SAFETY: a `Ctx` points to a context that lives as long as the `Ctx`, in a runtime that does, too.
    unsafe { qjs::JS_GetRuntime(ctx.as_raw().as_ptr()) }
}

/// Tells the runtime that its code runs on this thread's stack from now on.
pub(crate) fn enter(ctx: &Ctx<'_>) {
    // SAFETY: the runtime lives, and only this thread uses it: a `Ctx` is there only while its runtime is
    // locked.
    unsafe { qjs::JS_UpdateStackTop(runtime(ctx)) }
}

/// Sets the task of what runs next.
pub(crate) fn set_task(ctx: &Ctx<'_>, task: u64) {
    // SAFETY: as in `enter`.
    unsafe { qjs::JS_SetCurrentTask(runtime(ctx), task) }
}

/// Returns the task of the first job in the queue; `None` if there is no job.
pub(crate) fn next_job(ctx: &Ctx<'_>) -> Option<u64> {
    let mut task = 0;
    // SAFETY: as in `enter`; the second argument is a place for a number.
    let is_pending = unsafe { qjs::JS_GetPendingJobTask(runtime(ctx), &raw mut task) };
    is_pending.then_some(task)
}

/// Runs the first job in the queue under its task, which is the current one after that, too.
///
/// # Errors
/// The job threw: the exception is pending. `Ctx::execute_pending_job` would forget it.
pub(crate) fn run_job(ctx: &Ctx<'_>) -> rquickjs::Result<()> {
    let mut ran_in = ptr::null_mut();
    // SAFETY: as in `enter`; the second argument is a place for a pointer, which is not used. There is one
    // context in each runtime, so the exception is pending in this one.
    match unsafe { qjs::JS_ExecutePendingJob(runtime(ctx), &raw mut ran_in) } {
        code if code < 0 => Err(Error::Exception),
        _ => Ok(()),
    }
}

/// Drops the first job in the queue without running it.
pub(crate) fn discard_job(ctx: &Ctx<'_>) {
    // SAFETY: as in `enter`.
    unsafe { qjs::JS_DiscardPendingJob(runtime(ctx)) }
}
