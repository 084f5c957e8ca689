//! Uploads, fetches and the cache.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_nats::jetstream;
use futures_util::future::join_all;
use nex_artifact::{Kind, UploadError, read, upload};
use nex_testkit::NatsServer;

use crate::{BUCKET, content, files, start, store, uri};

#[tokio::test]
async fn what_is_uploaded_is_fetched_and_can_be_run() {
    let store = store().await;
    let script = b"#!/bin/sh\necho ran\n";
    let path = store.file("script", script);

    let uploaded = store.up(&path).await.unwrap();
    assert!(uploaded.fresh && uploaded.size == script.len() as u64);
    assert!(!store.up(&path).await.unwrap().fresh);

    let (_, cache) = store.cache();
    let fetched = cache
        .fetch(&uri(&uploaded.uri), &store.client, true)
        .await
        .unwrap();
    let output = std::process::Command::new(&fetched.path).output().unwrap();
    assert_eq!(output.stdout, b"ran\n");
    assert_eq!(
        fs::metadata(&fetched.path).unwrap().permissions().mode() & 0o777,
        0o500
    );
    let bytes = read(&uri(&uploaded.uri), &store.client, 1024)
        .await
        .unwrap();
    assert_eq!(&bytes[..], script);
}

#[tokio::test]
async fn progress_ends_at_the_whole_and_every_byte_arrives() {
    let store = store().await;
    let large = content(5_000_001);
    let path = store.file("large", &large);
    let seen = Mutex::new(Vec::new());

    let progress = |sent, total| seen.lock().unwrap().push((sent, total));
    let uploaded = upload(&store.client, BUCKET, &path, progress)
        .await
        .unwrap();

    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&(5_000_001, 5_000_001)));
    let (_, cache) = store.cache();
    let fetched = cache
        .fetch(&uri(&uploaded.uri), &store.client, false)
        .await
        .unwrap();
    assert_eq!(fs::read(fetched.path).unwrap(), large);
}

#[tokio::test]
async fn other_clients_read_what_we_write_and_we_read_theirs() {
    let store = store().await;
    let path = store.file("tool", &content(300_000));
    let uploaded = store.up(&path).await.unwrap();
    let context = jetstream::new(store.client.clone());
    let bucket = context.get_object_store(BUCKET).await.unwrap();
    let name = uploaded.uri.rsplit('/').next().unwrap();

    let mut object = bucket.get(format!("{name}_latest")).await.unwrap();
    let mut read = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut object, &mut read)
        .await
        .unwrap();
    assert_eq!(read, content(300_000));
    assert_eq!(object.info().description.as_deref(), Some("tool"));

    bucket
        .put("apps/web_v2", &mut &b"theirs"[..])
        .await
        .unwrap();
    let theirs = uri(&format!("nats://{BUCKET}/apps/web:v2"));
    assert_eq!(
        &nex_artifact::read(&theirs, &store.client, 100)
            .await
            .unwrap()[..],
        b"theirs"
    );
}

#[tokio::test]
async fn concurrent_uploads_of_one_content_send_it_once() {
    let store = store().await;
    let path = store.file("shared", &content(1_000_000));
    let sent = AtomicU64::new(0);

    let uploads = (0..16).map(|_| {
        let last = AtomicU64::new(0);
        let sent = &sent;
        let progress = move |now, _| {
            sent.fetch_add(now - last.swap(now, Ordering::Relaxed), Ordering::Relaxed);
        };
        upload(&store.client, BUCKET, &path, progress)
    });
    let uploads = join_all(uploads).await;

    let fresh = uploads
        .iter()
        .filter(|upload| upload.as_ref().unwrap().fresh)
        .count();
    assert_eq!((fresh, sent.load(Ordering::Relaxed)), (1, 1_000_000));
}

#[tokio::test]
async fn sixty_four_fetches_are_one_download_and_one_file() {
    let store = store().await;
    let uploaded = store
        .up(&store.file("shared", &content(400_000)))
        .await
        .unwrap();
    let consumers = Arc::new(AtomicU64::new(0));
    let mut created = store
        .client
        .subscribe("$JS.API.CONSUMER.CREATE.>")
        .await
        .unwrap();
    let counter = Arc::clone(&consumers);
    tokio::spawn(async move {
        while futures_util::StreamExt::next(&mut created).await.is_some() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    store.client.flush().await.unwrap();
    let (dir, cache) = store.cache();
    let uri = uri(&uploaded.uri);

    let fetches = join_all((0..64).map(|_| cache.fetch(&uri, &store.client, true))).await;

    let paths: Vec<_> = fetches
        .into_iter()
        .map(|fetched| fetched.unwrap().path)
        .collect();
    assert!(paths.iter().all(|path| path == &paths[0]));
    assert_eq!(files(&dir), [paths[0].clone()]);
    assert_eq!(consumers.load(Ordering::Relaxed), 1);
    // What is in the cache is not received again, also by a new process.
    let (_, again) = store.cache();
    again.fetch(&uri, &store.client, true).await.unwrap();
    assert_eq!(consumers.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_oldest_make_room_and_what_is_used_stays() {
    let store = store().await;
    let context = jetstream::new(store.client.clone());
    let config = jetstream::object_store::Config {
        bucket: BUCKET.into(),
        max_bytes: 1_000_000,
        ..Default::default()
    };
    context.create_object_store(config).await.unwrap();
    let mut uris = Vec::new();
    for number in 0..3u8 {
        let mut bytes = content(250_000);
        bytes[0] = number;
        let path = store.file(&number.to_string(), &bytes);
        uris.push(uri(&store.up(&path).await.unwrap().uri));
    }
    // What others have written by hand: the oldest claims the chunks of all, one says nothing.
    let old = format!(
        r#"{{"name":"old","bucket":"{BUCKET}","nuid":">","mtime":"2020-01-01T00:00:00Z"}}"#
    );
    for (key, metadata) in [("b2xk", old), ("x", "no JSON".to_owned())] {
        let subject = format!("$O.{BUCKET}.M.{key}");
        let stored = context.publish(subject, metadata.into()).await;
        stored.unwrap().await.unwrap();
    }
    // Used again, so the second one is now the oldest.
    store.up(&store.dir.path().join("0")).await.unwrap();

    let path = store.file("new", &content(250_000));
    store.up(&path).await.unwrap();

    assert!(read(&uris[0], &store.client, 1_000_000).await.is_ok());
    let gone = read(&uris[1], &store.client, 1_000_000).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);

    let path = store.file("huge", &content(1_200_000));
    let refused = store.up(&path).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::TooLarge);
    assert!(refused.to_string().contains("1200000 bytes"), "{refused}");
}

#[tokio::test]
async fn what_is_missing_or_too_large_is_told_apart() {
    let store = store().await;
    let uploaded = store.up(&store.file("a", b"0123456789")).await.unwrap();
    let kind = async |text: &str| read(&uri(text), &store.client, 5).await.unwrap_err().kind();

    assert_eq!(kind("nats://NOBODY/a").await, Kind::NotFound);
    assert_eq!(kind(&format!("nats://{BUCKET}/a")).await, Kind::NotFound);
    assert_eq!(kind(&uploaded.uri).await, Kind::TooLarge);
    assert_eq!(kind("file:///no/such/file").await, Kind::NotFound);
    assert_eq!(kind("file:///tmp").await, Kind::Io);
    let missing = store.up(Path::new("/no/such/file")).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
    assert!(matches!(
        store.up(Path::new("/tmp")).await,
        Err(UploadError::NotAFile(_))
    ));
}

#[tokio::test]
async fn without_jetstream_both_say_so() {
    let store = start(NatsServer::builder()).await;
    let path = store.file("a", b"content");

    assert_eq!(
        store.up(&path).await.unwrap_err().kind(),
        Kind::JetStreamOff
    );
    let error = read(&uri("nats://NEXCLIFILES/a"), &store.client, 5)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::JetStreamOff);
}
