//! Promises that were rejected and that nobody looks after: their errors would be seen by nobody.

use std::cell::RefCell;

use rquickjs::{Ctx, Persistent, Value};

/// The most that are kept of one task.
const MAX_REJECTIONS: usize = 20;

/// The rejected promises of a runtime with their reasons, as long as nobody has asked for them.
#[derive(Debug, Default)]
pub(crate) struct Rejections(RefCell<Vec<Rejection>>);

#[derive(Debug)]
struct Rejection {
    /// The task whose code rejected it.
    task: u64,
    promise: Persistent<Value<'static>>,
    reason: Persistent<Value<'static>>,
}

impl Rejections {
    /// A promise was rejected that nobody waits for, or somebody waits for one after all.
    pub(crate) fn track<'js>(
        &self,
        ctx: &Ctx<'js>,
        task: u64,
        promise: Value<'js>,
        reason: Value<'js>,
        is_handled: bool,
    ) {
        if is_handled {
            return self.handled(ctx, &promise);
        }
        let mut rejections = self.0.borrow_mut();
        let of_task = rejections.iter().filter(|other| other.task == task);
        if of_task.count() < MAX_REJECTIONS {
            rejections.push(Rejection {
                task,
                promise: Persistent::save(ctx, promise),
                reason: Persistent::save(ctx, reason),
            });
        }
    }

    /// Somebody looks after this promise.
    pub(crate) fn handled<'js>(&self, ctx: &Ctx<'js>, promise: &Value<'js>) {
        let is_it = |rejection: &mut Rejection| {
            let its = rejection.promise.clone().restore(ctx);
            its.is_ok_and(|its| its == *promise)
        };
        let handled: Vec<_> = self.0.borrow_mut().extract_if(.., is_it).collect();
        drop(handled);
    }

    /// Returns whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The tasks and reasons of those whose tasks are asked for; they are forgotten.
    pub(crate) fn take<'js>(
        &self,
        ctx: &Ctx<'js>,
        is_asked: impl Fn(u64) -> bool,
    ) -> Vec<(u64, Value<'js>)> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut rejections = self.0.borrow_mut();
        let taken = rejections.extract_if(.., |rejection| is_asked(rejection.task));
        let taken: Vec<_> = taken.collect();
        drop(rejections);
        let reasons = taken.into_iter().filter_map(|rejection| {
            let reason = rejection.reason.restore(ctx).ok()?;
            Some((rejection.task, reason))
        });
        reasons.collect()
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        let all = self.0.take();
        drop(all);
    }
}
