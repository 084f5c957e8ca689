//! That the conformance suite passes what is right, and finds what is wrong.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use nex_protocol::{StartWorkloadRequest, Tags, WorkloadId, WorkloadSummary};
use nex_testkit::conformance::{self, Candidate, Running};
use nexlet::{Description, End, Nexlet, Refusal, RunnerConfig, Start, Started, Stop, StopError};
use serde_json::json;

use crate::support::Fake;

/// A nexlet with faults that a runner cannot make good.
#[derive(Default)]
struct Faulty(Fake);

impl Nexlet for Faulty {
    fn describe(&self) -> Description {
        let version = "one".to_owned();
        Description {
            version,
            ..self.0.describe()
        }
    }

    async fn start(&self, start: Start) -> Result<Started, Refusal> {
        let (host, id, request) = (start.host.clone(), start.id.clone(), start.request.clone());
        let started = self.0.start(start).await?;
        // Told twice.
        host.workload_started(&id, &request, Tags::new()).await;
        Ok(started)
    }

    async fn stop(&self, stop: Stop) -> Result<(), StopError> {
        self.0.stop(stop).await
    }

    fn list(&self) -> Vec<WorkloadSummary> {
        let mut list = self.0.list();
        for workload in &mut list {
            workload.workload_type = "other".into();
        }
        list
    }

    fn get(&self, id: &WorkloadId) -> Option<StartWorkloadRequest> {
        let mut request = self.0.get(id)?;
        request.tags.clear();
        Some(request)
    }

    async fn shutdown(&self, grace: Duration) {
        self.0.shutdown(grace).await;
    }
}

fn launch(nexlet: impl Nexlet, place: &conformance::Place) -> Running {
    let config = RunnerConfig::from_environment(|name| place.variable(name));
    let config = config.expect("a node sets all variables");
    let end = End::default();
    let running = nexlet::run(Arc::new(nexlet), config, end.clone());
    Running::task(move || end.order(End::GRACE), running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_nexlet_passes() {
    let candidate = Candidate::new("fake", "service", json!({}), |place| {
        launch(Fake::default(), place)
    });

    conformance::check(&candidate).await.expect_all_passed();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_a_nexlet_is_found_where_it_is() {
    let candidate = Candidate::new("fake", "service", json!({}), |place| {
        launch(Faulty::default(), place)
    });

    let report = conformance::check(&candidate).await;

    let wanted = [
        "registers once, with all that a node needs",
        "lists by namespace, id and name",
        "hands out start requests, and is silent about others",
        "refuses starts with the body that nodes read",
        "takes up what ran before, once",
        "comes back when the server was away",
        "registers again with a node that forgot it",
    ];
    assert_eq!(report.failed(), wanted, "{report}");
}

/// Answers what nobody may answer, and a second time what somebody has answered.
async fn meddle(url: String) {
    let client = async_nats::connect(url).await.expect("the server is there");
    let mut questions = client.subscribe("$NEX.SVC.*.agent.>").await.expect("open");
    while let Some(question) = questions.next().await {
        let unknown = question.subject.ends_with("GETWORKLOAD.unknown");
        let listing = question.subject.ends_with("QUERYWORKLOADS");
        if let Some(reply) = question.reply.filter(|_| unknown || listing) {
            client.publish(reply, "[]".into()).await.expect("open");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_too_many_is_found() {
    let candidate = Candidate::new("fake", "service", json!({}), |place| {
        let meddler = tokio::spawn(meddle(place.url().to_owned()));
        let end = End::default();
        let config = RunnerConfig::from_environment(|name| place.variable(name));
        let config = config.expect("a node sets all variables");
        let ending = end.clone();
        Running::task(move || ending.order(End::GRACE), async move {
            let ran = nexlet::run(Arc::new(Fake::default()), config, end).await;
            meddler.abort();
            ran
        })
    });

    let report = conformance::check(&candidate).await;

    let gets = "hands out start requests, and is silent about others";
    assert!(report.failed().contains(&gets), "{report}");
    assert!(report.to_string().contains("where 0 is right"), "{report}");
    let pings = "answers pings with its id and summary";
    assert!(!report.failed().contains(&pings), "{report}");
}
