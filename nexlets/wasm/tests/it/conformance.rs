//! The nexlet in the role that nodes know.

use nex_testkit::conformance::{self, Candidate, Running};
use nexlet::{End, RunnerConfig};
use nexlet_wasm::WasmConfig;
use serde_json::json;

use crate::modules::ECHO;

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("echo.wasm");
    std::fs::write(&module, wat::parse_str(ECHO).unwrap()).unwrap();
    let uri = format!("file://{}", module.display());
    let request = json!({ "uri": uri, "triggers": [{ "subject": "echo" }] });
    let data_dir = dir.path().join("wasm");
    let candidate = Candidate::new("wasm", "function", request, move |place| {
        let nexlet = nexlet_wasm::nexlet(WasmConfig::new(data_dir.clone()));
        let config = RunnerConfig::from_environment(|name| place.variable(name));
        let end = End::default();
        let running = nexlet::run(nexlet.into(), config.unwrap(), end.clone());
        Running::task(move || end.order(End::GRACE), running)
    });

    conformance::check(&candidate).await.expect_all_passed();
}
