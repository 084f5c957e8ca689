//! Uploads that break off, and uploads of one content at the same time.

use std::{
    sync::{atomic::Ordering, mpsc},
    thread,
    time::{Duration, Instant},
};

use async_nats::connect;
use nex_artifact::{Uploaded, read, upload};
use nex_testkit::eventually;
use tokio::{sync::oneshot, time::timeout};

use crate::{BUCKET, SOON, Store, content, store, uri};

/// Limit for a client to connect again.
const RECONNECTED: Duration = Duration::from_secs(20);

/// An upload by a client of its own, which has sent its first chunk and sends no other.
struct Stuck {
    /// Lets it go on, or cuts its connection.
    end_tx: mpsc::Sender<End>,
    uploading: thread::JoinHandle<Option<Uploaded>>,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    GoOn,
    Cut,
}

impl Stuck {
    /// Returns when the first chunk is stored.
    fn begin(store: &Store, name: &str) -> Self {
        let (begun_tx, begun_rx) = mpsc::channel();
        let (end_tx, end_rx) = mpsc::channel();
        let (url, path) = (store.server.url().to_owned(), store.dir.path().join(name));
        let uploading = thread::spawn(move || {
            // The connection has a thread of its own: the one of the upload stands still.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let (cut_tx, cut_rx) = oneshot::channel();
            let cut_tx = std::sync::Mutex::new(Some(cut_tx));
            let end_rx = std::sync::Mutex::new(Some(end_rx));
            let progress = move |_, _| {
                let Some(end_rx) = end_rx.lock().unwrap().take() else {
                    return;
                };
                begun_tx.send(()).unwrap();
                if end_rx.recv().unwrap() == End::Cut {
                    cut_tx.lock().unwrap().take().unwrap().send(()).unwrap();
                }
            };
            runtime.block_on(async {
                let client = connect(url).await.unwrap();
                tokio::select! {
                    biased;
                    _cut = cut_rx => None,
                    uploaded = upload(&client, BUCKET, &path, progress) => Some(uploaded.unwrap()),
                }
            })
        });
        begun_rx.recv().unwrap();
        Self { end_tx, uploading }
    }

    fn end(self, end: End) -> Option<Uploaded> {
        self.end_tx.send(end).unwrap();
        self.uploading.join().unwrap()
    }
}

/// Uploads a file after another upload of it has broken off.
async fn uploads_soon(store: &Store, name: &str) {
    let begun = Instant::now();
    let uploaded = store.up(&store.dir.path().join(name)).await.unwrap();

    assert!(uploaded.fresh);
    assert!(begun.elapsed() < SOON, "{name}: {:?}", begun.elapsed());
    let bytes = read(&uri(&uploaded.uri), &store.client, 10_000_000).await;
    assert!(bytes.unwrap() == std::fs::read(store.dir.path().join(name)).unwrap());
}

#[tokio::test]
async fn an_upload_that_broke_off_does_not_delay_the_next() {
    let mut store = store().await;
    store.file("cut", &content(1_000_000));
    store.file("restarted", &content(1_000_001));

    assert_eq!(Stuck::begin(&store, "cut").end(End::Cut), None);
    uploads_soon(&store, "cut").await;

    // Here both have to connect again first. A request that goes to the old server is lost.
    let stuck = Stuck::begin(&store, "restarted");
    let client = store.client.clone();
    let connects = || client.statistics().connects.load(Ordering::Relaxed);
    let before = connects();
    store.server.restart();
    assert_eq!(stuck.end(End::Cut), None);
    eventually("the client is back", RECONNECTED, || async {
        connects() > before
    })
    .await;
    uploads_soon(&store, "restarted").await;
}

#[tokio::test]
async fn chunks_that_somebody_left_long_ago_delay_no_upload() {
    let store = store().await;
    let path = store.file("half", &content(600_000));
    store.up(&path).await.unwrap();
    // As if the metadata had never come.
    let stream = store.stream().await;
    let metadata = format!("$O.{BUCKET}.M.>");
    stream.purge().filter(metadata).await.unwrap();
    assert!(stream.get_info().await.unwrap().state.messages > 0);

    uploads_soon(&store, "half").await;
}

#[tokio::test]
async fn an_upload_that_is_slow_keeps_its_place() {
    let store = store().await;
    let path = store.file("slow", &content(1_000_000));
    let stuck = Stuck::begin(&store, "slow");

    let second = store.up(&path);
    tokio::pin!(second);
    let waited = timeout(Duration::from_secs(2), &mut second).await;
    assert!(waited.is_err(), "{waited:?}");
    let first = stuck.end(End::GoOn).unwrap();

    assert!(first.fresh);
    let second = second.await.unwrap();
    assert!(!second.fresh);
    let bytes = read(&uri(&second.uri), &store.client, 1_000_000).await;
    assert!(bytes.unwrap() == content(1_000_000));
}
