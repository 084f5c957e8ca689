//! The nexlet in the role that nodes know.

use std::time::Duration;

use nex_process::{Launcher, Reaper};
use nex_testkit::conformance::{self, Candidate, Running};
use nexlet::{End, RunnerConfig};
use nexlet_native::NativeConfig;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let _reaper: Reaper = Reaper::install().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let request = json!({ "uri": "file:///bin/sleep", "argv": ["1000"] });
    let candidate = Candidate::new("native", "service", request, move |place| {
        let nexlet = nexlet_native::nexlet(NativeConfig {
            data_dir: data_dir.clone(),
            launcher: Launcher::new(env!("CARGO_BIN_EXE_nexlet-native-test-supervisor")),
        });
        let config = RunnerConfig::from_environment(|name| place.variable(name));
        let end = End::default();
        let running = nexlet::run(nexlet.into(), config.unwrap(), end.clone());
        Running::task(move || end.order(Duration::from_secs(1)), running)
    });

    let report = conformance::check(&candidate).await;

    report.expect_all_passed();
    assert_eq!(nex_testkit::mentioning(dir.path()), []);
}
