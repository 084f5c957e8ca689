//! The nexlet in the role that nodes know.

use nex_testkit::conformance::{self, Candidate, Running};
use nexlet::{End, RunnerConfig};
use nexlet_js::JsConfig;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("echo.js");
    std::fs::write(&script, "(subject, payload) => payload").unwrap();
    let uri = format!("file://{}", script.display());
    let request = json!({ "uri": uri, "triggers": [{ "subject": "echo" }] });
    let candidate = Candidate::new("js", "function", request, |place| {
        let nexlet = nexlet_js::nexlet(JsConfig::default());
        let config = RunnerConfig::from_environment(|name| place.variable(name));
        let end = End::default();
        let running = nexlet::run(nexlet.into(), config.unwrap(), end.clone());
        Running::task(move || end.order(End::GRACE), running)
    });

    conformance::check(&candidate).await.expect_all_passed();
}
