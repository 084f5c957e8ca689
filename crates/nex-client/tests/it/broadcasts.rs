use std::time::{Duration, Instant};

use nex_client::{ClientError, FindError, PlaceOptions, StartError, StartSpec, limits};
use nex_protocol::{Lifecycle, Tags, WorkloadId};
use nex_testkit::NatsServer;

use crate::{
    client,
    fake::{Fake, node_id},
};

/// Under every limit, and far over what complete answers take, for machines that are busy.
const AT_ONCE: Duration = Duration::from_secs(1);

fn names(answer: &nex_client::ListAnswer) -> Vec<&str> {
    let mut names: Vec<_> = answer
        .workloads
        .iter()
        .map(|(_, each)| each.name.as_str())
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_list_ends_with_the_last_answer() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'B'])
        .with("web", "default")
        .start(server.url())
        .await;
    let _b = Fake::new('B', &['A', 'B'])
        .with("db", "default")
        .with("other", "tenant")
        .start(server.url())
        .await;
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let answer = client.list(&[]).await.unwrap();

    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert_eq!(names(&answer), ["db", "web"]);
    assert!(answer.missing.is_empty() && answer.failed.is_empty());
    let (node, _) = answer
        .workloads
        .iter()
        .find(|(_, w)| w.name == "db")
        .unwrap();
    assert_eq!(node.as_ref(), Some(&node_id('B')));
}

#[tokio::test]
async fn a_silent_peer_is_named_when_the_limit_is_over() {
    let server = NatsServer::start();
    let peers = ['A', 'B', 'C'];
    let _a = Fake::new('A', &peers)
        .with("web", "default")
        .start(server.url())
        .await;
    let _b = Fake::new('B', &peers).start(server.url()).await;
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let answer = client.list(&[]).await.unwrap();

    assert_eq!(names(&answer), ["web"]);
    assert_eq!(answer.missing, [node_id('C')]);
    assert!(started.elapsed() >= limits::BROADCAST);
    let nodes = client.nodes(&Tags::new(), None).await.unwrap();
    assert_eq!(nodes.missing, [node_id('C')]);
}

#[tokio::test]
async fn chunks_of_a_list_are_put_together() {
    let server = NatsServer::start();
    let chunked = Fake {
        chunked: true,
        ..Fake::new('A', &['A'])
    };
    let names_wanted: Vec<_> = (0..40).map(|n| format!("w{n:02}")).collect();
    let node = names_wanted
        .iter()
        .fold(chunked, |node, name| node.with(name, "default"));
    let _a = node.start(server.url()).await;
    let client = client(server.url(), "default").await;

    let answer = client.list(&[]).await.unwrap();

    assert_eq!(names(&answer), names_wanted);
}

#[tokio::test]
async fn go_nodes_are_counted_among_ours() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'G'])
        .with("web", "default")
        .start(server.url())
        .await;
    let _g = Fake::go('G')
        .with("go", "default")
        .start(server.url())
        .await;
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let answer = client.list(&[]).await.unwrap();

    assert_eq!(names(&answer), ["go", "web"]);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    assert!(answer.missing.is_empty());
}

#[tokio::test]
async fn go_nodes_alone_are_listed_after_a_silence() {
    let server = NatsServer::start();
    let _g = Fake::go('G')
        .with("one", "default")
        .start(server.url())
        .await;
    let _h = Fake::go('H')
        .with("two", "default")
        .start(server.url())
        .await;
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let answer = client.list(&[]).await.unwrap();

    assert_eq!(names(&answer), ["one", "two"]);
    assert!(
        started.elapsed() < limits::QUIET + AT_ONCE,
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        client.nodes(&Tags::new(), None).await.unwrap().nodes.len(),
        2
    );
}

#[tokio::test]
async fn no_node_at_all_is_known_at_once() {
    let server = NatsServer::start();
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let answer = client.list(&[]).await.unwrap();
    assert!(answer.workloads.is_empty() && answer.nobody);
    let found = client.find("web").await;
    assert!(
        matches!(found, Err(FindError::Client(ClientError::NoNodes))),
        "{found:?}"
    );
    assert!(
        client
            .nodes(&Tags::new(), None)
            .await
            .unwrap()
            .nodes
            .is_empty()
    );
    let id = WorkloadId::mint(&node_id('A'));
    let stopped = client.stop(&id, None).await;
    assert!(matches!(stopped, Err(ClientError::NoNodes)), "{stopped:?}");
    let info = client.node_info(&node_id('A')).await;
    assert!(
        matches!(info, Err(ClientError::NodeNotFound(_))),
        "{info:?}"
    );

    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
}

#[tokio::test]
async fn silence_is_no_answer() {
    let server = NatsServer::start();
    let _stuck = Fake::stuck('A').start(server.url()).await;
    let client = client(server.url(), "default").await;
    let id = WorkloadId::mint(&node_id('A'));
    let spec = StartSpec::new("v8", Lifecycle::Function, &"");

    let (tags, brief) = (Tags::new(), Duration::from_millis(100));
    let started = Instant::now();
    let silent = node_id('A');
    let (list, find, stop, start, nodes, soon, info) = tokio::join!(
        client.list(&[]),
        client.find("web"),
        client.stop(&id, Some(brief)),
        client.start(spec),
        client.nodes(&tags, None),
        client.nodes(&tags, Some(brief)),
        client.node_info(&silent),
    );

    let took = started.elapsed();
    assert!(took >= limits::SILENCE && took < limits::SILENCE + AT_ONCE);
    for error in [
        list.unwrap_err(),
        match find.unwrap_err() {
            FindError::Client(error) => error,
            other => panic!("{other:?}"),
        },
        stop.unwrap_err(),
        match start.unwrap_err() {
            StartError::Client(error) => error,
            other => panic!("{other:?}"),
        },
        nodes.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "no node answered within 10s");
    }
    assert!(matches!(info, Err(ClientError::NoAnswer { missing, .. }) if missing == [silent]));
    assert!(matches!(soon, Err(ClientError::NoAnswer { after, .. }) if after == brief));
}

#[tokio::test]
async fn nodes_are_filtered_by_tags_without_waiting_for_the_rest() {
    let server = NatsServer::start();
    let tagged = Fake {
        tags: Tags::from([("region".to_owned(), "lab".to_owned())]),
        ..Fake::new('A', &['A', 'B'])
    };
    let _a = tagged.start(server.url()).await;
    let _b = Fake::new('B', &['A', 'B']).start(server.url()).await;
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    let answer = client.nodes(&tagged.tags, None).await.unwrap();

    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    let ids: Vec<_> = answer.nodes.iter().map(|each| &each.node_id).collect();
    assert_eq!(ids, [&node_id('A')]);
    assert!(answer.missing.is_empty());
}

#[tokio::test]
async fn a_workload_is_stopped_by_its_owner() {
    let server = NatsServer::start();
    let owner = Fake::new('A', &['A', 'B']).with("web", "tenant");
    let id = owner.workloads[0].id.clone();
    let _a = owner.start(server.url()).await;
    let _b = Fake::new('B', &['A', 'B']).start(server.url()).await;
    let started = Instant::now();

    let in_tenant = client(server.url(), "tenant").await.stop(&id, None).await;
    let in_system = client(server.url(), "system").await.stop(&id, None).await;
    let elsewhere = client(server.url(), "default").await.stop(&id, None).await;

    assert!(in_tenant.unwrap().stopped);
    assert!(in_system.unwrap().stopped);
    assert!(matches!(
        elsewhere,
        Err(ClientError::WorkloadNotFound { missing, .. }) if missing.is_empty()
    ));
    assert!(started.elapsed() < 3 * AT_ONCE, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_workload_of_a_go_node_is_stopped_too() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'G']).start(server.url()).await;
    let owner = Fake::go('G').with("web", "default");
    let _g = owner.start(server.url()).await;
    let client = client(server.url(), "default").await;
    let started = Instant::now();

    assert!(
        client
            .stop(&owner.workloads[0].id, None)
            .await
            .unwrap()
            .stopped
    );
    let unknown = client
        .stop(&WorkloadId::new("0".repeat(22)).unwrap(), None)
        .await;

    assert!(
        matches!(unknown, Err(ClientError::WorkloadNotFound { .. })),
        "{unknown:?}"
    );
    assert!(
        started.elapsed() < limits::BROADCAST,
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_dead_owner_is_named() {
    let server = NatsServer::start();
    let _a = Fake::new('A', &['A', 'B']).start(server.url()).await;
    let client = client(server.url(), "default").await;
    let id = WorkloadId::mint(&node_id('B'));

    match client.stop(&id, None).await {
        Err(ClientError::WorkloadNotFound { missing, .. }) => assert_eq!(missing, [node_id('B')]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_workload_is_found_by_what_a_person_types() {
    let server = NatsServer::start();
    let node = Fake::new('A', &['A'])
        .with("web", "default")
        .with("db", "default");
    let id = node.workloads[0].id.clone();
    let _a = node.start(server.url()).await;
    let client = client(server.url(), "default").await;

    assert_eq!(client.find(id.as_str()).await.unwrap().name, "web");
    assert_eq!(client.find("web").await.unwrap().id, id);
    // The first six characters name the node, which both share.
    let (shared, unique) = (&id.as_str()[..6], &id.as_str()[..20]);
    assert_eq!(client.find(unique).await.unwrap().id, id);
    match client.find(shared).await {
        Err(FindError::Ambiguous { candidates, .. }) => assert_eq!(candidates.len(), 2),
        other => panic!("{other:?}"),
    }
    let nothing = client.find("nothing").await;
    assert!(
        matches!(nothing, Err(FindError::NotFound { .. })),
        "{nothing:?}"
    );
}

/// No node of ours has heard of the Go node, as in the seconds after its start, and the Go node is slower
/// than they are.
#[tokio::test]
async fn a_go_node_that_no_other_node_knows_is_not_missed() {
    let server = NatsServer::start();
    let ours = Fake::new('A', &['A']).with("own", "default");
    let go = Fake {
        answers_after: Duration::from_millis(1),
        ..Fake::go('G')
    };
    let go = go.runs("native").with("foreign", "default");
    let _running = [ours.start(server.url()).await, go.start(server.url()).await];
    let client = client(server.url(), "default").await;

    let mut missed = 0;
    for _ in 0..20 {
        let nodes = client.nodes(&Tags::new(), None).await.unwrap();
        let list = client.list(&[]).await.unwrap();
        let complete = nodes.nodes.len() == 2 && list.workloads.len() == 2;
        missed += usize::from(!complete);
    }
    // Where the machine is busy a stranger can be too late.
    assert!(missed <= 5, "{missed} of 20");
    let request = serde_json::json!({ "uri": "x" });
    let spec = StartSpec::new("native", Lifecycle::Service, &request);
    client.start(spec.clone()).await.unwrap();
    client
        .place(spec, &PlaceOptions::default())
        .await
        .outcome
        .unwrap();
}
