//! `CLONE`.

use nex_nats::error_headers;
use nex_protocol::{ErrorCode, StartWorkloadRequest, WorkloadId, error::WORKLOAD_NOT_FOUND};

use crate::support::{Bus, assert_error, body, named_node, start_request};

const REQUEST: &str = r#"{"namespace":"default","new_target_xkey":"X"}"#;

fn subject(id: &str) -> String {
    format!("$NEX.SVC.default.control.CLONE.{id}")
}

fn stored() -> String {
    start_request("echo", "{}").to_string()
}

#[tokio::test]
async fn a_clone_is_the_stored_start_request() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet.says(&nexlet.gets(), &stored()).await;

    for id in ["w", WorkloadId::mint(node.id()).as_str()] {
        let reply = bus.ask(&subject(id), REQUEST).await;

        let request: StartWorkloadRequest = body(&reply);
        assert_eq!(
            (request.name.as_str(), request.namespace.as_str()),
            ("web", "default")
        );
        assert_eq!(named_node(&reply).as_deref(), Some(node.id().as_str()));
    }
}

#[tokio::test]
async fn an_error_of_one_nexlet_does_not_win_over_the_owners_answer() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet
        .answers(&nexlet.gets(), |_| async {
            let not_mine = error_headers(ErrorCode::Nexlet, WORKLOAD_NOT_FOUND);
            let none = async_nats::HeaderMap::new();
            vec![(not_mine, "".into()), (none, stored().into())]
        })
        .await;

    let request: StartWorkloadRequest = body(&bus.ask(&subject("w"), REQUEST).await);

    assert_eq!(request.name, "web");
}

#[tokio::test]
async fn only_who_made_the_id_says_that_there_is_no_such_workload() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let own = WorkloadId::mint(node.id());

    let nobody = bus.ask(&subject(own.as_str()), REQUEST).await;
    assert_error(&nobody, ErrorCode::NotFound, WORKLOAD_NOT_FOUND);
    bus.silent(
        (&subject("foreign"), REQUEST),
        (&subject(own.as_str()), REQUEST),
    )
    .await;

    // A nexlet that does not have it is silent; the node does not wait for that.
    let nexlet = bus.nexlet(node.id()).await;
    nexlet.says(&nexlet.queries(), "null").await;
    let _silent = bus.listen(&nexlet.gets()).await;
    let asked = std::time::Instant::now();
    let absent = bus.ask(&subject(own.as_str()), REQUEST).await;
    assert_error(&absent, ErrorCode::NotFound, WORKLOAD_NOT_FOUND);
    assert!(asked.elapsed().as_millis() < 1400, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_clone_shows_nothing_of_another_namespace() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet.says(&nexlet.gets(), &stored()).await;
    let own = WorkloadId::mint(node.id());
    let other = |id: &str| subject(id).replace(".default.", ".other.");
    let request = REQUEST.replace("default", "other");

    let reply = bus.ask(&other(own.as_str()), request.clone()).await;
    assert_error(&reply, ErrorCode::NotFound, WORKLOAD_NOT_FOUND);
    bus.silent((&other("w"), &request), (&other(own.as_str()), &request))
        .await;

    let system = subject("w").replace(".default.", ".system.");
    let reply = bus.ask(&system, request).await;
    assert!(nex_nats::read_error(&reply).is_none(), "{reply:?}");
}
