//! Promises that were rejected and that nobody looks after: their errors would be seen by nobody.

use std::cell::RefCell;

use rquickjs::{Ctx, Persistent, Value};

/// The most that are kept of one invocation.
const MAX_REJECTIONS: usize = 20;

/// What was rejected in the current invocation, and why, as long as nobody has asked for it.
#[derive(Debug, Default)]
pub(crate) struct Rejections(RefCell<Vec<Rejection>>);

#[derive(Debug)]
struct Rejection {
    promise: Persistent<Value<'static>>,
    reason: Persistent<Value<'static>>,
}

impl Rejections {
    /// A promise was rejected that nobody waits for, or somebody waits for one after all.
    pub(crate) fn track<'js>(
        &self,
        ctx: &Ctx<'js>,
        promise: Value<'js>,
        reason: Value<'js>,
        is_handled: bool,
    ) {
        if is_handled {
            return self.handled(ctx, &promise);
        }
        let mut rejections = self.0.borrow_mut();
        if rejections.len() < MAX_REJECTIONS {
            rejections.push(Rejection {
                promise: Persistent::save(ctx, promise),
                reason: Persistent::save(ctx, reason),
            });
        }
    }

    /// Somebody looks after this promise.
    pub(crate) fn handled<'js>(&self, ctx: &Ctx<'js>, promise: &Value<'js>) {
        self.0.borrow_mut().retain(|rejection| {
            let its = rejection.promise.clone().restore(ctx);
            its.is_ok_and(|its| its != *promise)
        });
    }

    /// Why those were rejected that nobody looks after; they are forgotten.
    pub(crate) fn take<'js>(&self, ctx: &Ctx<'js>) -> Vec<Value<'js>> {
        let rejections = self.0.take().into_iter();
        let reasons = rejections.filter_map(|rejection| rejection.reason.restore(ctx).ok());
        reasons.collect()
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.0.take();
    }
}
