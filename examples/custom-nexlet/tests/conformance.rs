//! The nexlet as nodes see it, as a program.

use std::process::Command;

use nex_testkit::conformance::{self, Candidate, Running};
use serde_json::json;

#[tokio::test]
async fn it_conforms() {
    let request = json!({ "every_ms": 1000, "text": "tick" });
    let candidate = Candidate::new("timer", "service", request, |place| {
        let mut nexlet = Command::new(env!("CARGO_BIN_EXE_custom-nexlet"));
        nexlet.arg(place.nexus()).env("NATS_URL", place.url());
        Running::process(nexlet.env_remove("NATS_CREDS").spawn().unwrap())
    });

    conformance::check(&candidate).await.expect_all_passed();
}
