//! One suite over all stores, and what each has of its own.

use std::sync::Arc;

use async_nats::jetstream;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use nex_protocol::{
    Lifecycle, Namespace, NexletId, NodeId, StartWorkloadRequest, Tags, WorkloadId,
};
use nex_testkit::NatsServer;
use nkeys::KeyPair;
use serde_json::json;

use super::*;

fn node() -> NodeId {
    NodeId::new(KeyPair::new_server().public_key()).unwrap()
}

fn record(id: &WorkloadId, name: &str) -> Record {
    let metadata = json!({"a": {"b": 1}});
    Record {
        id: id.clone(),
        request: StartWorkloadRequest {
            description: "for people".into(),
            metadata: metadata.as_object().unwrap().clone(),
            name: name.into(),
            namespace: Namespace::new("tenant").unwrap(),
            reference: "ref".into(),
            run_request: r#"{"uri":"file:///x"}"#.into(),
            tags: Tags::from([("region".into(), "lab".into())]),
            workload_lifecycle: Lifecycle::Service,
            workload_type: "my_type".into(),
        },
        remote_nexlet: None,
        started: Some(Timestamp::from_second(1_700_000_000).unwrap()),
    }
}

/// Where a store is, to open it again and again.
enum Place {
    Disk(tempfile::TempDir),
    Kv {
        client: async_nats::Client,
        /// Killed when it is dropped.
        _server: Box<NatsServer>,
    },
}

impl Place {
    async fn all() -> [Self; 2] {
        let server = NatsServer::builder().jetstream(true).start();
        let client = async_nats::connect(server.url()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        [
            Self::Disk(folder),
            Self::Kv {
                client,
                _server: Box::new(server),
            },
        ]
    }

    async fn open(&self, node: &NodeId) -> Arc<dyn StateStore> {
        match self {
            Self::Disk(folder) => Arc::new(DiskStore::open(folder.path(), node).unwrap()),
            Self::Kv { client, .. } => Arc::new(KvStore::open(client, node).await.unwrap()),
        }
    }
}

async fn loaded(store: &dyn StateStore) -> Vec<Record> {
    let mut records = store.load().await.unwrap();
    records.sort_by(|one, other| one.id.cmp(&other.id));
    records
}

#[tokio::test]
async fn a_new_store_is_empty() {
    for place in Place::all().await {
        let store = place.open(&node()).await;

        assert_eq!(loaded(&*store).await, []);
    }
}

#[tokio::test]
async fn what_was_put_is_there_after_it_is_opened_again() {
    for place in Place::all().await {
        let node = node();
        let (a, b) = (WorkloadId::mint(&node), WorkloadId::mint(&node));
        let mut records = vec![record(&a, "one"), record(&b, "two")];
        records[1].remote_nexlet = Some(NexletId::mint());
        records[1].started = None;
        let store = place.open(&node).await;
        for record in &records {
            store.put(record).await.unwrap();
        }
        drop(store);

        let store = place.open(&node).await;

        records.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(loaded(&*store).await, records);
    }
}

#[tokio::test]
async fn remote_nexlets_are_there_after_it_is_opened_again() {
    for place in Place::all().await {
        let node = node();
        let (kept, gone) = (NexletId::mint(), NexletId::mint());
        let registration = RegisterRequest {
            description: "for people".into(),
            max_workloads: 7.0,
            name: "far".into(),
            public_xkey: "XKEY".into(),
            register_type: "my_type".into(),
            start_request_schema: r#"{"type":"object"}"#.into(),
            supported_lifecycles: vec![Lifecycle::Job],
            tells_ends: false,
            version: "1.0.0".into(),
        };
        let store = place.open(&node).await;
        assert_eq!(store.load_nexlets().await.unwrap(), []);
        for id in [&kept, &gone] {
            store.put_nexlet(id, &registration).await.unwrap();
        }
        store.remove_nexlet(&gone).await.unwrap();
        let workload = WorkloadId::mint(&node);
        store.put(&record(&workload, "one")).await.unwrap();
        drop(store);

        let store = place.open(&node).await;

        assert_eq!(store.load_nexlets().await.unwrap(), [(kept, registration)]);
        assert_eq!(loaded(&*store).await, [record(&workload, "one")]);
    }
}

#[tokio::test]
async fn a_lame_duck_is_one_after_it_is_opened_again() {
    for place in Place::all().await {
        let node = node();
        let id = WorkloadId::mint(&node);
        let ends = Timestamp::from_second(1_900_000_000).unwrap();
        let store = place.open(&node).await;
        assert_eq!(store.load_lameduck().await.unwrap(), None);
        store
            .put_lameduck(Some(Timestamp::UNIX_EPOCH))
            .await
            .unwrap();
        store.put_lameduck(Some(ends)).await.unwrap();
        store.put(&record(&id, "beside it")).await.unwrap();
        drop(store);

        let store = place.open(&node).await;
        assert_eq!(store.load_lameduck().await.unwrap(), Some(ends));
        assert_eq!(loaded(&*store).await, [record(&id, "beside it")]);
        store.put_lameduck(None).await.unwrap();
        store.put_lameduck(None).await.unwrap();
        drop(store);

        let store = place.open(&node).await;
        assert_eq!(store.load_lameduck().await.unwrap(), None);
        assert_eq!(loaded(&*store).await, [record(&id, "beside it")]);
    }
}

/// It reads all keys that begin with the type of one of its nexlets.
#[tokio::test]
async fn a_go_node_does_not_take_a_lame_duck_for_a_workload() {
    let [_, place] = Place::all().await;
    let node = node();
    let store = place.open(&node).await;
    let ends = Some(Timestamp::from_second(1_900_000_000).unwrap());
    store.put_lameduck(ends).await.unwrap();
    let Place::Kv { client, .. } = &place else {
        panic!("the second place is a bucket");
    };

    let bucket = jetstream::new(client.clone());
    let bucket = bucket.get_key_value(format!("nex-{node}")).await.unwrap();
    let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();

    assert_eq!(keys.len(), 1);
    for workload_type in ["n", "nex", "native", "L", "_"] {
        assert!(!keys[0].starts_with(workload_type), "{keys:?}");
    }
}

#[tokio::test]
async fn a_record_of_the_same_id_is_replaced() {
    for place in Place::all().await {
        let node = node();
        let id = WorkloadId::mint(&node);
        let store = place.open(&node).await;

        store.put(&record(&id, "old")).await.unwrap();
        store.put(&record(&id, "new")).await.unwrap();

        assert_eq!(loaded(&*store).await, [record(&id, "new")]);
    }
}

#[tokio::test]
async fn what_was_removed_is_gone_for_good() {
    for place in Place::all().await {
        let node = node();
        let (gone, left) = (WorkloadId::mint(&node), WorkloadId::mint(&node));
        let store = place.open(&node).await;
        store.put(&record(&gone, "gone")).await.unwrap();
        store.put(&record(&left, "left")).await.unwrap();

        store.remove(&gone, "my_type").await.unwrap();
        store.remove(&gone, "my_type").await.unwrap();
        assert_eq!(loaded(&*store).await, [record(&left, "left")]);
        drop(store);

        let store = place.open(&node).await;
        assert_eq!(loaded(&*store).await, [record(&left, "left")]);
    }
}

#[tokio::test]
async fn a_store_is_one_node_s() {
    for place in Place::all().await {
        let (one, other) = (node(), node());
        let store = place.open(&one).await;
        let id = WorkloadId::mint(&one);
        store.put(&record(&id, "x")).await.unwrap();

        assert_eq!(loaded(&*place.open(&other).await).await, []);
    }
}

#[tokio::test]
async fn a_thousand_writes_at_once_are_all_kept() {
    for place in Place::all().await {
        let node = node();
        let store = place.open(&node).await;
        let records: Vec<Record> = (0..1000)
            .map(|n| record(&WorkloadId::mint(&node), &format!("w{n}")))
            .collect();

        let puts = records.iter().map(|record| store.put(record));
        for put in futures_util::future::join_all(puts).await {
            put.unwrap();
        }
        drop(store);

        assert_eq!(place.open(&node).await.load().await.unwrap().len(), 1000);
    }
}

#[tokio::test]
async fn a_journal_is_open_once_at_a_time_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let (node, journals) = (node(), folder.path().join("journal"));
    let first = DiskStore::open(&journals, &node).unwrap();

    let second = DiskStore::open(&journals, &node);

    assert!(matches!(second, Err(StateError::Open { .. })), "{second:?}");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&journals), 0o700);
    let file = journals.join(format!("{node}.redb"));
    assert_eq!(mode(&file), 0o600);
    drop(first);
    DiskStore::open(&journals, &node).unwrap();
}

#[tokio::test]
async fn a_damaged_journal_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = node();
    let file = folder.path().join(format!("{node}.redb"));
    std::fs::write(&file, "this is no database at all".repeat(1000)).unwrap();

    let error = DiskStore::open(folder.path(), &node).unwrap_err();

    assert!(error.to_string().contains(&node.to_string()), "{error}");
}

/// §3.9 of the wire protocol: a Go node finds what this one has kept, and the other way round.
#[tokio::test]
async fn the_bucket_is_that_of_a_go_node() {
    let server = NatsServer::builder().jetstream(true).start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let node = node();
    let store = KvStore::open(&client, &node).await.unwrap();
    let id = WorkloadId::mint(&node);
    store.put(&record(&id, "web")).await.unwrap();
    let context = jetstream::new(client);
    let bucket = format!("nex-{node}");

    let mut stream = context.get_stream(format!("KV_{bucket}")).await.unwrap();
    let config = stream.info().await.unwrap().config.clone();
    assert_eq!(config.subjects, [format!("$KV.{bucket}.>")]);
    assert_eq!(
        (
            config.max_messages_per_subject,
            config.max_bytes,
            config.max_message_size
        ),
        (1, 100_000_000, 10_000)
    );
    assert_eq!(config.num_replicas, 1);
    assert_eq!(config.duplicate_window, std::time::Duration::from_secs(120));
    assert_eq!(config.discard, jetstream::stream::DiscardPolicy::New);
    assert_eq!(config.storage, jetstream::stream::StorageType::File);
    assert!(config.deny_delete && config.allow_rollup && config.allow_direct);

    let raw = context.get_key_value(&bucket).await.unwrap();
    let value = raw.get(format!("my_type_{id}")).await.unwrap().unwrap();
    let request: StartWorkloadRequest = serde_json::from_slice(&value).unwrap();
    assert_eq!(request, record(&id, "web").request);

    // As a Go node leaves them: without our fields, and a marker of a stop elsewhere.
    let theirs = WorkloadId::mint(&node);
    let mut request = request;
    request.name = "theirs".into();
    let value = serde_json::to_vec(&request).unwrap();
    raw.put(format!("my_type_{theirs}"), value.into())
        .await
        .unwrap();
    raw.purge(format!("_{theirs}")).await.unwrap();
    raw.put("my_type_no-id", "no start request".into())
        .await
        .unwrap();

    let records = store.load().await.unwrap();
    let found = records.iter().find(|record| record.id == theirs).unwrap();
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!((&found.request, &found.remote_nexlet), (&request, &None));
}

/// The bucket has an end, and a workload that is over must take nothing of it.
#[tokio::test]
async fn what_was_removed_leaves_nothing_in_the_bucket() {
    let server = NatsServer::builder().jetstream(true).start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let node = node();
    let store = KvStore::open(&client, &node).await.unwrap();
    let id = WorkloadId::mint(&node);
    store.put(&record(&id, "web")).await.unwrap();

    store.remove(&id, "my_type").await.unwrap();

    let context = jetstream::new(client);
    let mut stream = context.get_stream(format!("KV_nex-{node}")).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 0);
}

#[tokio::test]
async fn what_does_not_fit_into_the_bucket_is_refused() {
    let server = NatsServer::builder().jetstream(true).start();
    let client = async_nats::connect(server.url()).await.unwrap();
    let node = node();
    let store = KvStore::open(&client, &node).await.unwrap();
    let mut large = record(&WorkloadId::mint(&node), "large");
    large.request.run_request = "x".repeat(10_000);

    let refused = store.put(&large).await;

    assert!(
        matches!(refused, Err(StateError::TooLarge { most: 10_000, .. })),
        "{refused:?}"
    );
    assert_eq!(store.load().await.unwrap(), []);
}
