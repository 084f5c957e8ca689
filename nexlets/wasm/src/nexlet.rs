//! The nexlet: what it tells its node, and where modules come from.

use std::{path::PathBuf, time::Duration};

use ::nexlet::{Chain, Description, Nexlet, Refusal, Start, Started, Stop, StopError};
use nex_artifact::{ArtifactUri, FetchError, Kind};
use nex_functions::{FunctionHost, FunctionRequest, Limits, NewFunction, Source};
use nex_protocol::{ErrorCode, Lifecycle, StartWorkloadRequest, WorkloadId, WorkloadSummary};

use crate::{engine::WasmEngine, limits::MAX_MODULE_BYTES};

/// The type of workload that this nexlet runs.
pub const WORKLOAD_TYPE: &str = "wasm";

/// How a [`WasmNexlet`] is set up.
#[derive(Clone, Debug)]
pub struct WasmConfig {
    /// A folder of its own, in which it keeps compiled modules.
    pub data_dir: PathBuf,
    /// The bounds of its functions.
    pub limits: Limits,
}

impl WasmConfig {
    /// The usual bounds, with this folder.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            limits: Limits::default(),
        }
    }
}

/// Runs WebAssembly functions.
#[derive(Debug)]
pub struct WasmNexlet {
    functions: FunctionHost<WasmEngine>,
}

/// A nexlet without functions.
#[must_use]
pub fn nexlet(config: WasmConfig) -> WasmNexlet {
    let engine = WasmEngine::new(
        config.data_dir.join("compiled"),
        config.limits.most_threads(),
    );
    WasmNexlet {
        functions: FunctionHost::new(engine, config.limits),
    }
}

impl Nexlet for WasmNexlet {
    fn describe(&self) -> Description {
        Description {
            name: "nex_wasm".to_owned(),
            workload_type: WORKLOAD_TYPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: "runs WebAssembly functions".to_owned(),
            lifecycles: vec![Lifecycle::Function],
            max_workloads: 0,
            start_request_schema: FunctionRequest::schema("the module, a WASI preview 1 command"),
        }
    }

    async fn start(&self, start: Start) -> Result<Started, Refusal> {
        let request = FunctionRequest::parse(&start.request.run_request)
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        let uri: ArtifactUri = match request.uri.parse() {
            Ok(uri) => uri,
            Err(error) => return Err(Refusal::bad_request(Chain(&error).to_string())),
        };
        let code = nex_artifact::read(&uri, start.host.client(), MAX_MODULE_BYTES).await;
        let source = Source {
            name: module_name(&uri, &start.request.name),
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

/// How errors name a module. One that is stored under its digest goes by the workload's name.
fn module_name(uri: &ArtifactUri, workload: &str) -> String {
    let name = uri.short_name();
    let is_digest = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (is_digest, workload) {
        (false, _) => name,
        (true, "") => "module.wasm".to_owned(),
        (true, workload) => format!("{workload}.wasm"),
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
    fn a_module_is_named_so_that_a_person_knows_it() {
        let digest = "ab".repeat(32);
        for (uri, workload, name) in [
            ("file:///home/me/echo.wasm".to_owned(), "web", "echo.wasm"),
            ("nats://apps/hello.wasm:v2".to_owned(), "web", "hello.wasm"),
            (format!("nats://NEXCLIFILES/{digest}"), "web", "web.wasm"),
            (format!("nats://NEXCLIFILES/{digest}"), "", "module.wasm"),
        ] {
            assert_eq!(module_name(&uri.parse().unwrap(), workload), name);
        }
    }
}
