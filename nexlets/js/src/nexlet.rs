//! The nexlet: what it tells its node, and where scripts come from.

use std::time::Duration;

use ::nexlet::{Chain, Description, Nexlet, Refusal, Start, Started, Stop, StopError};
use nex_artifact::{ArtifactUri, FetchError, Kind};
use nex_functions::{FunctionHost, FunctionRequest, Limits, NewFunction, Policy, Source};
use nex_protocol::{ErrorCode, Lifecycle, StartWorkloadRequest, WorkloadId, WorkloadSummary};

use crate::engine::JsEngine;

/// The type of workload that this nexlet runs.
pub const WORKLOAD_TYPE: &str = "js";

/// The largest script in bytes.
pub const MAX_SCRIPT_BYTES: u64 = 1024 * 1024;

/// How a [`JsNexlet`] is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsConfig {
    /// The bounds of its functions.
    pub limits: Limits,
    /// What they may reach through host services.
    pub policy: Policy,
}

/// Runs JavaScript functions.
#[derive(Debug)]
pub struct JsNexlet {
    functions: FunctionHost<JsEngine>,
}

/// A nexlet without functions.
#[must_use]
pub fn nexlet(config: JsConfig) -> JsNexlet {
    JsNexlet {
        functions: FunctionHost::new(JsEngine, config.limits).with_policy(config.policy),
    }
}

impl Nexlet for JsNexlet {
    fn describe(&self) -> Description {
        Description {
            name: "nex_js".to_owned(),
            workload_type: WORKLOAD_TYPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "runs JavaScript functions".to_owned(),
            lifecycles: vec![Lifecycle::Function],
            max_workloads: 0,
            start_request_schema: FunctionRequest::schema(
                "the script, whose value is `(subject, payload) => result`; the module, whose default \
                 export is `async (request, nex) => result`; or a tar archive of modules",
            ),
        }
    }

    async fn start(&self, start: Start) -> Result<Started, Refusal> {
        let request = FunctionRequest::parse(&start.request.run_request)
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        let uri: ArtifactUri = match request.uri.parse() {
            Ok(uri) => uri,
            Err(error) => return Err(Refusal::bad_request(Chain(&error).to_string())),
        };
        let code = nex_artifact::read(&uri, start.host.client(), MAX_SCRIPT_BYTES).await;
        let source = Source {
            name: script_name(&uri, &start.request.name),
            code: code.map_err(|error| unreadable(&error))?,
        };
        let function = NewFunction {
            start,
            request,
            source,
        };
        self.functions.start(function).await
    }

    async fn stop(&self, stop: Stop) -> Result<(), StopError> {
        self.functions.stop(&stop).await
    }

    fn list(&self) -> Vec<WorkloadSummary> {
        self.functions.list()
    }

    fn active(&self) -> usize {
        self.functions.active()
    }

    fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest> {
        self.functions.get(id)
    }

    async fn shutdown(&self, grace: Duration) {
        self.functions.shutdown(grace).await;
    }
}

/// How errors name a script. One that is stored under its digest goes by the workload's name.
fn script_name(uri: &ArtifactUri, workload: &str) -> String {
    let name = uri.short_name();
    let is_digest = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (is_digest, workload) {
        (false, _) => name,
        (true, "") => "script.js".to_owned(),
        (true, workload) => format!("{workload}.js"),
    }
}

fn unreadable(error: &FetchError) -> Refusal {
    let code = match error.kind() {
        Kind::NotFound | Kind::JetStreamOff => ErrorCode::NotFound,
        Kind::TooLarge => ErrorCode::TooLarge,
        Kind::Unavailable => ErrorCode::Busy,
        Kind::Digest | Kind::Io => ErrorCode::Internal,
    };
    Refusal::new(code, Chain(error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_so_that_a_person_knows_it() {
        let digest = "ab".repeat(32);
        for (uri, workload, name) in [
            ("file:///home/me/echo.js".to_owned(), "web", "echo.js"),
            ("nats://apps/hello.js:v2".to_owned(), "web", "hello.js"),
            (format!("nats://NEXCLIFILES/{digest}"), "web", "web.js"),
            (format!("nats://NEXCLIFILES/{digest}"), "", "script.js"),
        ] {
            assert_eq!(script_name(&uri.parse().unwrap(), workload), name);
        }
    }
}
