//! Which node gets a workload, which is next, and how that is explained.

use std::time::Duration;

use nex_client::{
    Client, ClientError, Explanation, FindNodeError, PlaceOptions, StartError, StartSpec, Verdict,
};
use nex_protocol::{ErrorCode, Lifecycle, Tags, WorkloadId};
use nex_testkit::NatsServer;

use crate::{
    client,
    fake::{Fake, Running, node_id, workload},
};

fn spec(workload_type: &str, name: &str) -> StartSpec {
    let request = serde_json::json!({ "uri": "x" });
    StartSpec {
        name: name.to_owned(),
        ..StartSpec::new(workload_type, Lifecycle::Service, &request)
    }
}

fn on(node: &str) -> PlaceOptions {
    PlaceOptions {
        node: Some(node.to_owned()),
        ..PlaceOptions::default()
    }
}

/// A nexus of two nodes, of which `A` comes first.
struct Two {
    server: NatsServer,
    a: Fake,
    b: Fake,
    _running: [Running; 2],
}

impl Two {
    async fn start(a: impl FnOnce(Fake) -> Fake) -> Self {
        let server = NatsServer::start();
        let fake = |fill| Fake::new(fill, &['A', 'B']).runs("native");
        let (a, b) = (a(fake('A')), fake('B'));
        let b = Fake { load: 5, ..b };
        let running = [a.start(server.url()).await, b.start(server.url()).await];
        Self {
            server,
            a,
            b,
            _running: running,
        }
    }

    async fn client(&self) -> Client {
        client(self.server.url(), "default").await
    }

    /// How many workloads each got.
    fn deployed(&self) -> (usize, usize) {
        let count = |fake: &Fake| fake.deployed.lock().unwrap().len();
        (count(&self.a), count(&self.b))
    }
}

#[tokio::test]
async fn what_another_node_may_not_have_is_tried_on_the_next_best() {
    for (code, text) in [
        (ErrorCode::Busy, "full"),
        (ErrorCode::Timeout, "it did not start within 50s"),
        (
            ErrorCode::Internal,
            "failed to publish start workload request",
        ),
        (ErrorCode::NotFound, "workload type not found"),
    ] {
        let nexus = Two::start(|a| a.refuses(code, text)).await;

        let placed = nexus.client().await.start(spec("native", "web")).await;

        assert_eq!(placed.unwrap().node, Some(node_id('B')), "{text}");
        assert_eq!(nexus.deployed(), (0, 1), "{text}");
    }
}

#[tokio::test]
async fn what_every_node_would_say_is_tried_nowhere_else() {
    for code in [
        ErrorCode::BadRequest,
        ErrorCode::Forbidden,
        ErrorCode::Nexlet,
    ] {
        let nexus = Two::start(|a| a.refuses(code, "no")).await;

        let error = nexus.client().await.start(spec("native", "web")).await;

        let error = error.unwrap_err();
        assert!(
            matches!(error, StartError::Client(ClientError::Refused(ref r)) if r.code == code),
            "{error:?}"
        );
        assert_eq!(nexus.deployed(), (0, 0), "{code}");
    }
}

#[tokio::test]
async fn for_bids_that_are_too_old_there_is_another_auction() {
    let server = NatsServer::start();
    let fake = Fake::new('A', &['A'])
        .runs("native")
        .refuses(ErrorCode::NotFound, "bid expired");
    let _a = fake.start(server.url()).await;
    let client = client(server.url(), "default").await;

    let placed = client.start(spec("native", "web")).await;

    assert_eq!(placed.unwrap().node, Some(node_id('A')));
    // There is one more auction, not one after the other.
    for _ in 0..2 {
        let refusal = (ErrorCode::NotFound, "bid expired");
        fake.refusals.lock().unwrap().push(refusal);
    }
    let error = client.start(spec("native", "web")).await.unwrap_err();
    assert!(
        matches!(error, StartError::NotTaken { ref attempts } if attempts.len() == 2),
        "{error:?}"
    );
}

#[tokio::test]
async fn where_nobody_takes_it_every_attempt_is_told() {
    let nexus = Two::start(|a| a.refuses(ErrorCode::Internal, "it broke")).await;
    let refusal = (ErrorCode::Busy, "full");
    nexus.b.refusals.lock().unwrap().push(refusal);

    let error = nexus.client().await.start(spec("native", "web")).await;

    let error = error.unwrap_err();
    let StartError::NotTaken { attempts } = &error else {
        panic!("{error:?}");
    };
    let nodes: Vec<_> = attempts.iter().map(|each| each.node.clone()).collect();
    assert_eq!(nodes, [Some(node_id('A')), Some(node_id('B'))]);
    let text = error.to_string();
    assert!(text.contains("it broke") && text.contains("full"), "{text}");
}

#[tokio::test]
async fn a_node_that_may_run_it_is_asked_and_no_other_gets_it() {
    let id = WorkloadId::mint(&node_id('A'));
    let seen = id.clone();
    let nexus = Two::start(|a| Fake {
        silent_at: &["deploy"],
        workloads: vec![workload(seen, "web", "default")],
        ..a
    })
    .await;
    let options = PlaceOptions {
        limit: Some(Duration::from_millis(300)),
        ..PlaceOptions::default()
    };

    let client = nexus.client().await;
    let placed = client.place(spec("native", "web"), &options).await;

    let error = placed.outcome.unwrap_err();
    let StartError::Unanswered { node, seen, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*node, Some(node_id('A')));
    assert_eq!(seen.iter().map(|w| &w.id).collect::<Vec<_>>(), [&id]);
    assert!(error.to_string().contains("may run it"), "{error}");
    assert_eq!(nexus.deployed(), (0, 0));
    assert_eq!(
        verdicts(&placed.explanation.unwrap())[0].1,
        Verdict::Refused
    );
}

/// Who is who in an explanation: the letter of the id, and what became of it.
fn verdicts(explanation: &Explanation) -> Vec<(String, Verdict)> {
    let letter = |id: &nex_protocol::NodeId| id.as_str()[1..2].to_owned();
    explanation
        .nodes
        .iter()
        .map(|each| {
            let id = each.node_id.as_ref().map_or("?".to_owned(), letter);
            (id, each.verdict)
        })
        .collect()
}

fn named(pairs: &[(&str, Verdict)]) -> Vec<(String, Verdict)> {
    let pairs = pairs.iter();
    pairs
        .map(|(id, verdict)| ((*id).to_owned(), *verdict))
        .collect()
}

#[tokio::test]
async fn a_choice_is_explained() {
    let server = NatsServer::start();
    let peers = ['A', 'B', 'C', 'D', 'G', 'S'];
    let fake = |fill: char| Fake::new(fill, &peers).named(&fill.to_lowercase().to_string());
    let best = fake('A').runs("native").refuses(ErrorCode::Busy, "full");
    let next = Fake {
        load: 1,
        ..fake('B').runs("native")
    };
    let worst = Fake {
        load: 9,
        ..fake('C').runs("native")
    };
    let mut running = Vec::new();
    for fake in [best, next, worst, fake('D'), Fake::go('G').named("g")] {
        running.push(fake.start(server.url()).await);
    }
    let client = client(server.url(), "default").await;

    let options = PlaceOptions::default();
    let placed = client.place(spec("native", "web"), &options).await;

    assert_eq!(placed.outcome.unwrap().node, Some(node_id('B')));
    let explanation = placed.explanation.unwrap();
    assert_eq!(
        verdicts(&explanation),
        named(&[
            ("B", Verdict::Chosen),
            ("A", Verdict::Refused),
            ("C", Verdict::Passed),
            ("D", Verdict::Declined),
            ("S", Verdict::Silent),
            ("G", Verdict::Silent),
        ])
    );
    let reason = |place: usize| explanation.nodes[place].reason.as_str();
    assert_eq!(reason(0), "the next best after one that did not take it");
    assert_eq!(reason(1), "full");
    assert_eq!(reason(2), "more loaded than the chosen one");
    assert_eq!(reason(3), "no nexlet runs `native`");
    assert_eq!(reason(4), "no answer");
    assert!(
        reason(5).contains("a Go node says nothing"),
        "{}",
        reason(5)
    );
    let chosen = explanation.chosen().unwrap();
    assert_eq!(chosen.name.as_deref(), Some("b"));
    assert_eq!(chosen.load.as_ref().unwrap().workloads, 1);
}

#[tokio::test]
async fn a_refusal_is_explained_too_and_nothing_is_chosen() {
    let nexus = Two::start(|a| a).await;
    let client = nexus.client().await;

    let options = PlaceOptions::default();
    let looked = client.would_place(&spec("cobol", "x"), &options).await;

    assert!(matches!(looked.outcome, Err(StartError::NoBids { .. })));
    let explanation = looked.explanation.unwrap();
    assert_eq!(explanation.chosen(), None);
    let declined = named(&[("A", Verdict::Declined), ("B", Verdict::Declined)]);
    let mut told = verdicts(&explanation);
    told.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(told, declined);
}

#[tokio::test]
async fn bids_of_go_nodes_do_not_say_whose_they_are() {
    let server = NatsServer::start();
    let one = Fake::go('G').named("g").runs("native");
    let _g = one.start(server.url()).await;
    let client = client(server.url(), "default").await;
    let options = PlaceOptions::default();

    let alone = client.place(spec("native", "web"), &options).await;
    let _h = Fake::go('H').named("h").start(server.url()).await;
    let beside = client.place(spec("native", "web"), &options).await;

    // Of the only Go node it can be told.
    let alone = alone.explanation.unwrap();
    assert_eq!(verdicts(&alone), named(&[("G", Verdict::Chosen)]));
    let beside = verdicts(&beside.explanation.unwrap());
    assert_eq!(beside[0], ("?".to_owned(), Verdict::Chosen));
    assert!(beside[1..].iter().all(|each| each.1 == Verdict::Unclear));
    assert_eq!(beside.len(), 3);
}

#[tokio::test]
async fn one_node_can_be_asked_for_by_id_name_or_beginning() {
    let server = NatsServer::start();
    let peers = ['A', 'B', 'G'];
    let (a, b) = (Fake::new('A', &peers), Fake::new('B', &peers));
    let busy = Fake {
        load: 9,
        ..b.named("bee")
    };
    let mut running = Vec::new();
    for fake in [
        a.named("ay").runs("native"),
        busy.runs("native"),
        Fake::go('G').named("gee").runs("native"),
    ] {
        running.push(fake.start(server.url()).await);
    }
    let client = client(server.url(), "default").await;

    for (asked, fill) in [
        (node_id('B').as_str(), 'B'),
        ("bee", 'B'),
        ("NBB", 'B'),
        ("gee", 'G'),
        (node_id('G').as_str(), 'G'),
    ] {
        let placed = client.place(spec("native", "web"), &on(asked)).await;

        let explanation = placed.explanation.unwrap();
        let only = verdicts(&explanation);
        assert_eq!(
            only,
            named(&[(&fill.to_string(), Verdict::Chosen)]),
            "{asked}"
        );
        let placed = placed.outcome.unwrap();
        assert_eq!(placed.node, Some(node_id(fill)), "{asked}");
        assert_eq!(placed.name, format!("native-on-{fill}"));
    }
}

#[tokio::test]
async fn a_node_that_cannot_have_it_is_named_with_the_reason() {
    let server = NatsServer::start();
    let peers = ['A', 'B', 'G'];
    let mut running = Vec::new();
    for fake in [
        Fake::new('A', &peers).named("ay").runs("native"),
        Fake::new('B', &peers).named("bee"),
        Fake::go('G').named("gee"),
    ] {
        running.push(fake.start(server.url()).await);
    }
    let client = client(server.url(), "default").await;
    let client = &client;
    let refused = async |node: &str| {
        let placed = client.place(spec("native", "web"), &on(node)).await;
        placed.outcome.unwrap_err()
    };

    let (bee, gee) = (refused("bee").await, refused("gee").await);
    let (absent, several) = (refused("zed").await, refused("N").await);
    let stranger = refused(node_id('Z').as_str()).await;

    assert!(bee.to_string().contains("no nexlet runs `native`"), "{bee}");
    assert!(
        gee.to_string().contains("a Go node does not say why"),
        "{gee}"
    );
    for absent in [absent, stranger] {
        assert!(
            matches!(absent, StartError::Node(FindNodeError::NotFound { .. })),
            "{absent:?}"
        );
    }
    assert!(
        matches!(several, StartError::Node(FindNodeError::Ambiguous { ref candidates, .. })
            if candidates.len() == 3),
        "{several:?}"
    );
}

#[tokio::test]
async fn go_nodes_of_one_name_are_not_mistaken_for_each_other() {
    let server = NatsServer::start();
    let twin = |fill| Fake::go(fill).named("twin").runs("native");
    let (_g, _h) = (
        twin('G').start(server.url()).await,
        twin('H').start(server.url()).await,
    );
    let client = client(server.url(), "default").await;

    let placed = client
        .place(spec("native", "web"), &on(node_id('G').as_str()))
        .await;

    let error = placed.outcome.unwrap_err();
    assert!(
        matches!(error, StartError::SameName { ref nodes, .. } if nodes.len() == 2),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_clone_goes_where_it_is_asked_for() {
    let server = NatsServer::start();
    let peers = ['A', 'B'];
    let a = Fake::new('A', &peers).runs("native").with("web", "default");
    let original = a.workloads[0].id.clone();
    let busy = Fake {
        load: 9,
        ..Fake::new('B', &peers).named("bee")
    };
    let (_a, _b) = (
        a.start(server.url()).await,
        busy.runs("native").start(server.url()).await,
    );
    let client = client(server.url(), "default").await;

    let placed = client.place_clone(&original, Tags::new(), &on("bee")).await;

    assert_eq!(placed.outcome.unwrap().node, Some(node_id('B')));
    assert!(placed.explanation.unwrap().chosen().is_some());
}

/// Go nodes in lame duck bid, deploy, and lose what they were given.
#[tokio::test]
async fn a_go_node_in_lame_duck_gets_nothing() {
    let server = NatsServer::start();
    let duck = Fake::go('G').named("duck").runs("native").lame_duck();
    let _duck = duck.start(server.url()).await;
    let client = client(server.url(), "default").await;
    let options = |node: Option<&str>| PlaceOptions {
        node: node.map(ToOwned::to_owned),
        ..PlaceOptions::default()
    };

    // Alone, by whatever name it is asked for.
    for node in [None, Some("duck"), Some(duck.id.as_str())] {
        let placed = client.place(spec("native", "web"), &options(node)).await;
        let text = placed.outcome.unwrap_err().to_string();
        assert!(text.contains("state `lameduck`"), "{node:?}: {text}");
        let verdicts = verdicts(&placed.explanation.unwrap());
        assert_eq!(verdicts, named(&[("G", Verdict::Declined)]), "{node:?}");
    }
    // Beside others, also for starts that share an auction, and when the others refuse.
    let ours = Fake::new('A', &['A', 'G', 'H']).named("a").runs("native");
    let _ours = ours.start(server.url()).await;
    let go = Fake::go('H').named("go").runs("native");
    let _go = go.start(server.url()).await;
    for _ in 0..10 {
        client.start(spec("native", "web")).await.unwrap();
        let placed = client.place(spec("native", "web"), &options(None)).await;
        placed.outcome.unwrap();
    }
    let refusal = (ErrorCode::Busy, "full");
    ours.refusals.lock().unwrap().extend([refusal; 4]);
    go.refusals.lock().unwrap().extend([refusal; 4]);
    client.start(spec("native", "web")).await.unwrap_err();

    assert_eq!(duck.deployed.lock().unwrap().len(), 0);
    assert_eq!(
        ours.deployed.lock().unwrap().len() + go.deployed.lock().unwrap().len(),
        20
    );
}

/// Nobody knows how loaded a Go node is, and nobody says so.
#[tokio::test]
async fn a_go_node_gets_its_share_and_its_load_is_said_to_be_unknown() {
    const STARTS: usize = 60;
    let server = NatsServer::start();
    let [a, b] = ['A', 'B'].map(|fill| Fake::new(fill, &['A', 'B', 'G']).runs("native"));
    let go = Fake::go('G').named("go").runs("native");
    let mut running = Vec::new();
    for fake in [&a, &Fake { load: 1, ..b }, &go] {
        running.push(fake.start(server.url()).await);
    }
    let client = client(server.url(), "default").await;

    let mut reasons = std::collections::BTreeSet::new();
    for _ in 0..STARTS {
        let options = PlaceOptions::default();
        let placed = client.place(spec("native", "web"), &options).await;
        placed.outcome.unwrap();
        for each in placed.explanation.unwrap().nodes {
            reasons.insert((each.load.is_some(), each.reason));
        }
    }

    let got = go.deployed.lock().unwrap().len();
    // A third; with probability 0.9999 at least this.
    assert!((6..=36).contains(&got), "{got} of {STARTS}");
    let wanted = [
        (false, "by chance, 1 in 3; its load is unknown"),
        (false, "its load is unknown: chance decided"),
        (true, "chance decided for one whose load is unknown"),
        (true, "more loaded than the chosen one"),
        (
            true,
            "the least loaded of 2 that report it; 1 of unknown load",
        ),
    ];
    let wanted = wanted.map(|(known, reason)| (known, reason.to_owned()));
    assert_eq!(reasons, wanted.into());
}
