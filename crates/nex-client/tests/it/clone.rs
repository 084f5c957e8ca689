use std::time::{Duration, Instant};

use nex_client::{ClientError, StartError};
use nex_protocol::{Tags, WorkloadId};
use nex_testkit::NatsServer;

use crate::{
    client,
    fake::{Fake, node_id},
};

/// Under every limit, and far over what complete answers take, for machines that are busy.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_clone_is_placed_in_the_namespace_of_the_other_with_its_own_tags() {
    let server = NatsServer::start();
    let owner = Fake::new('A', &['A', 'B']).with("web", "tenant");
    let tags = Tags::from([("region".to_owned(), "east".to_owned())]);
    let other = Fake {
        tags: tags.clone(),
        ..Fake::new('B', &['A', 'B']).runs("native")
    };
    let id = owner.workloads[0].id.clone();
    let (_a, _b) = (
        owner.start(server.url()).await,
        other.start(server.url()).await,
    );

    for (position, namespace) in ["tenant", "system"].into_iter().enumerate() {
        let client = client(server.url(), namespace).await;

        let placed = client.clone_workload(&id, tags.clone()).await.unwrap();

        assert_eq!(placed.node, Some(node_id('B')));
        assert_ne!(placed.id, id);
        let deployed = other.deployed.lock().unwrap();
        let request = &deployed[position];
        assert_eq!(request.namespace.as_str(), "tenant");
        assert_eq!(request.tags, tags);
        assert_eq!(
            (request.name.as_str(), request.reference.as_str()),
            ("web", "r")
        );
        assert_eq!(request.run_request, "{}");
    }
}

#[tokio::test]
async fn a_workload_of_a_go_node_is_cloned_too() {
    let server = NatsServer::start();
    let go = Fake::go('G').with("web", "default").runs("native");
    let id = go.workloads[0].id.clone();
    let _a = Fake::new('A', &['A', 'G']).start(server.url()).await;
    let _g = go.start(server.url()).await;
    let client = client(server.url(), "default").await;

    let placed = client.clone_workload(&id, Tags::new()).await.unwrap();

    assert_eq!((placed.name.as_str(), placed.node), ("native-on-G", None));
}

#[tokio::test]
async fn what_nobody_has_is_not_found_at_once() {
    let server = NatsServer::start();
    let owner = Fake::new('A', &['A', 'B']).with("web", "tenant");
    let hidden = owner.workloads[0].id.clone();
    let _a = owner.start(server.url()).await;
    let _b = Fake::new('B', &['A', 'B'])
        .runs("native")
        .start(server.url())
        .await;
    let client = client(server.url(), "default").await;

    // Gone from its node, of another tenant, and of no node at all.
    for id in [
        WorkloadId::mint(&node_id('B')),
        hidden,
        WorkloadId::mint(&node_id('Z')),
    ] {
        let started = Instant::now();

        let error = client.clone_workload(&id, Tags::new()).await.unwrap_err();

        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        let StartError::Client(ClientError::WorkloadNotFound { missing, .. }) = error else {
            panic!("{error:?}");
        };
        assert!(missing.is_empty(), "{missing:?}");
    }
}

#[tokio::test]
async fn an_owner_that_does_not_answer_is_named() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'B']).start(server.url()).await;
    let client = client(server.url(), "default").await;
    let id = WorkloadId::mint(&node_id('B'));

    let error = client.start_request(&id).await.unwrap_err();

    let ClientError::WorkloadNotFound { missing, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(missing, [node_id('B')]);
}

#[tokio::test]
async fn without_nodes_there_is_nothing_to_clone() {
    let server = NatsServer::start();
    let client = client(server.url(), "default").await;

    let error = client
        .start_request(&WorkloadId::mint(&node_id('A')))
        .await
        .unwrap_err();

    assert!(matches!(error, ClientError::NoNodes), "{error:?}");
}
