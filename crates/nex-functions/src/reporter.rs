//! Tells once a second what is new about each function that did something.

use std::sync::{Arc, OnceLock};

use tokio::{
    runtime::Handle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use crate::{function::Function, limits::REPORT_PERIOD};

/// The task that reports, from the first function on. It ends when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Reporter(OnceLock<DropGuard>);

impl Reporter {
    /// Reports about these functions from now on, if nothing does yet.
    ///
    /// On the runtime on which functions end, so that their last report is the last one.
    pub(crate) fn ensure(
        &self,
        runtime: &Handle,
        functions: impl Fn() -> Vec<Arc<Function>> + Send + 'static,
    ) {
        self.0.get_or_init(|| {
            let ended = CancellationToken::new();
            let until = ended.clone();
            runtime.spawn(async move {
                tokio::select! {
                    () = until.cancelled() => {}
                    () = report_all(functions) => {}
                }
            });
            ended.drop_guard()
        });
    }
}

async fn report_all(functions: impl Fn() -> Vec<Arc<Function>>) {
    let mut period = interval(REPORT_PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        for function in functions() {
            report(&function).await;
        }
    }
}

/// Publishes what is new about a function, where something is.
pub(crate) async fn report(function: &Function) {
    let Some(body) = function.report() else {
        return;
    };
    let Function {
        id, request, host, ..
    } = function;
    let reporting = host.metrics(&request.namespace, id, body.to_string());
    if let Err(error) = reporting.await {
        // Its counts are in the next one.
        debug!(workload = %id, %error, "a report is lost");
    }
}
