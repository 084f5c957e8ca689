//! Objects whose metadata and chunks contradict each other.

use std::{path::PathBuf, time::Instant};

use async_nats::jetstream::object_store;
use data_encoding::{BASE64URL, HEXLOWER};
use nex_artifact::{ContentError, FetchError, Kind, ObjectReader, read};
use nex_testkit::eventually;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{BUCKET, SOON, Store, content, files, store, uri};

impl Store {
    async fn publish(&self, subject: String, payload: Vec<u8>) {
        let sent = self.context().publish(subject, payload.into()).await;
        sent.unwrap().await.unwrap();
    }

    /// Writes metadata by hand, as whoever may publish can.
    async fn put_metadata(&self, name: &str, changes: Value) {
        let digest = BASE64URL.encode(&Sha256::digest(vec![7; 300]));
        let mut info = json!({
            "name": name, "bucket": BUCKET, "nuid": name, "size": 300, "chunks": 3,
            "mtime": "2026-01-01T00:00:00Z", "digest": format!("SHA-256={digest}"),
        });
        for (field, value) in changes.as_object().unwrap() {
            info[field] = value.clone();
        }
        let key = BASE64URL.encode(format!("{name}_latest").as_bytes());
        let subject = format!("$O.{BUCKET}.M.{key}");
        self.publish(subject, info.to_string().into_bytes()).await;
    }

    /// Writes `chunks` chunks of 100 bytes.
    async fn put_chunks(&self, nuid: &str, chunks: usize) {
        for _ in 0..chunks {
            self.publish(format!("$O.{BUCKET}.C.{nuid}"), vec![7; 100])
                .await;
        }
    }

    async fn consumers(&self) -> usize {
        self.stream().await.cached_info().state.consumer_count
    }
}

async fn with_bucket() -> Store {
    let store = store().await;
    let config = object_store::Config {
        bucket: BUCKET.to_owned(),
        ..Default::default()
    };
    store.context().create_object_store(config).await.unwrap();
    store
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[tokio::test]
async fn metadata_that_contradicts_the_chunks_is_refused_soon() {
    let store = with_bucket().await;
    // Name, stored chunks, what the metadata says, a part of the error.
    let cases = [
        ("none", 0, json!({}), "0 of its 3 chunks"),
        ("fewer", 2, json!({}), "2 of its 3 chunks"),
        ("more", 4, json!({}), "more than 3 chunks"),
        ("short", 3, json!({ "size": 301 }), "300 of its 301 bytes"),
        ("long", 3, json!({ "size": 299 }), "more than 299 bytes"),
        ("zero", 3, json!({ "size": 0 }), "more than 0 bytes"),
        ("nothing", 3, json!({ "chunks": 0 }), "0 of its 300 bytes"),
        (
            "other",
            3,
            json!({ "digest": "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=" }),
            "another digest",
        ),
        (
            "huge",
            1,
            json!({ "size": 1u64 << 50, "chunks": 1u64 << 40 }),
            "1 of its 1099511627776 chunks",
        ),
        (
            "largest",
            0,
            json!({ "size": u64::MAX, "chunks": u64::MAX }),
            "0 of its",
        ),
        (
            "undigested",
            3,
            json!({ "digest": null }),
            "no SHA-256 digest",
        ),
        ("all", 0, json!({ "nuid": ">", "chunks": 23 }), "`nuid`"),
        ("unnamed", 0, json!({ "nuid": "" }), "`nuid`"),
    ];
    for (name, chunks, metadata, _) in &cases {
        store.put_chunks(name, *chunks).await;
        store.put_metadata(name, metadata.clone()).await;
    }
    store.put_chunks("right", 3).await;
    store.put_metadata("right", json!({})).await;
    let (dir, cache) = store.cache();

    for (name, _, _, part) in &cases {
        let uri = uri(&format!("nats://{BUCKET}/{name}"));
        let begun = Instant::now();
        let error = read(&uri, &store.client, u64::MAX).await.unwrap_err();
        assert!(begun.elapsed() < SOON, "{name}: {:?}", begun.elapsed());
        assert_eq!(error.kind(), Kind::Damaged, "{name}: {error}");
        assert!(chain(&error).contains(part), "{name}: {}", chain(&error));
        let error = cache.fetch(&uri, &store.client, true).await.unwrap_err();
        assert!(
            matches!(error, FetchError::Damaged { .. }),
            "{name}: {error}"
        );
    }
    let right = uri(&format!("nats://{BUCKET}/right"));
    assert_eq!(
        read(&right, &store.client, 300).await.unwrap(),
        vec![7; 300]
    );

    let kept = files(&dir);
    assert_eq!(kept, Vec::<PathBuf>::new());
    eventually("no consumers", SOON, || async {
        let consumers = store.consumers().await;
        (consumers == 0).then_some(()).ok_or(consumers)
    })
    .await;
}

#[tokio::test]
async fn a_chunk_that_was_changed_is_found_out_before_anything_runs() {
    let store = store().await;
    let uploaded = store.up(&store.file("a", &content(1000))).await.unwrap();
    let name = uploaded.uri.rsplit('/').next().unwrap();
    let chunks = format!("$O.{BUCKET}.C.{name}");
    store.stream().await.purge().filter(&chunks).await.unwrap();
    let mut other = content(1000);
    other[500] ^= 1;
    store.publish(chunks, other).await;

    let (dir, cache) = store.cache();
    let fetched = cache.fetch(&uri(&uploaded.uri), &store.client, true).await;

    let error = fetched.unwrap_err();
    assert!(
        chain(&error).contains("another digest"),
        "{}",
        chain(&error)
    );
    assert_eq!(files(&dir), Vec::<PathBuf>::new());
}

/// Deletes messages with a connection of another thread, which this one waits for. Meanwhile nothing
/// of this runtime runs: its connections receive nothing.
fn purge_elsewhere(store: &Store, subject: String) {
    let url = store.server.url().to_owned();
    let purging = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let context = async_nats::jetstream::new(async_nats::connect(url).await.unwrap());
            let stream = context.get_stream(format!("OBJ_{BUCKET}")).await.unwrap();
            stream.purge().filter(subject).await.unwrap();
        });
    });
    purging.join().unwrap();
}

#[tokio::test]
async fn chunks_that_are_deleted_during_a_read_end_it() {
    let store = store().await;
    // More than the server sends ahead.
    let path = store.file("large", &content(16_000_000));
    let uploaded = store.up(&path).await.unwrap();
    let name = uploaded.uri.rsplit('/').next().unwrap();
    let context = store.context();
    let bucket = context.get_object_store(BUCKET).await.unwrap();
    let info = bucket.info(format!("{name}_latest")).await.unwrap();
    let subject = format!("$O.{BUCKET}.C.{}", info.nuid);
    let mut reader = ObjectReader::new(&context, info);
    reader.next().await.unwrap().unwrap();

    purge_elsewhere(&store, subject);

    let mut quiet_since = Instant::now();
    let error = loop {
        match reader.next().await {
            Ok(Some(_chunk)) => quiet_since = Instant::now(),
            Ok(None) => panic!("the whole object came"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, ContentError::Incomplete { stored: 0, .. }),
        "{error}"
    );
    assert!(quiet_since.elapsed() < SOON, "{:?}", quiet_since.elapsed());
}

#[tokio::test]
async fn a_read_goes_on_behind_its_last_chunk_after_a_restart() {
    let mut store = store().await;
    let large = content(16_000_000);
    let path = store.file("large", &large);
    let uploaded = store.up(&path).await.unwrap();
    let name = uploaded.uri.rsplit('/').next().unwrap();
    let context = store.context();
    let bucket = context.get_object_store(BUCKET).await.unwrap();
    let info = bucket.info(format!("{name}_latest")).await.unwrap();
    let mut reader = ObjectReader::new(&context, info);
    let mut received = reader.next().await.unwrap().unwrap().to_vec();

    store.server.restart();

    while let Some(chunk) = reader.next().await.unwrap() {
        received.extend_from_slice(&chunk);
    }
    assert!(received == large, "{} bytes", received.len());
}

#[tokio::test]
async fn an_upload_repairs_a_damaged_object() {
    let store = store().await;
    let bytes = content(300_000);
    let path = store.file("tool", &bytes);
    let uploaded = store.up(&path).await.unwrap();
    let name = uploaded.uri.rsplit('/').next().unwrap();
    assert_eq!(name, HEXLOWER.encode(&Sha256::digest(&bytes)));
    let stream = store.stream().await;
    let chunks = format!("$O.{BUCKET}.C.{name}");

    // All chunks are gone, the last one is, or there is one too many.
    for damage in ["all", "last", "more"] {
        match damage {
            "all" => {
                stream.purge().filter(&chunks).await.unwrap();
            }
            "last" => {
                let last = stream.direct_get_last_for_subject(&*chunks).await.unwrap();
                stream.delete_message(last.sequence).await.unwrap();
            }
            _ => store.publish(chunks.clone(), vec![1; 10]).await,
        }
        let begun = Instant::now();

        let again = store.up(&path).await.unwrap();

        assert!(again.fresh, "{damage}");
        assert!(begun.elapsed() < SOON, "{damage}: {:?}", begun.elapsed());
        let read = read(&uri(&again.uri), &store.client, 300_000).await;
        assert!(read.unwrap() == bytes, "{damage}");
    }
    assert!(!store.up(&path).await.unwrap().fresh);
}

#[tokio::test]
async fn an_upload_keeps_what_another_client_has_stored() {
    let store = with_bucket().await;
    let bytes = content(300_000);
    let name = HEXLOWER.encode(&Sha256::digest(&bytes));
    let context = store.context();
    let bucket = context.get_object_store(BUCKET).await.unwrap();
    // As Go Nex does: chunks of any size, under an id of their own.
    let metadata = object_store::ObjectMetadata {
        name: format!("{name}_latest"),
        chunk_size: Some(70_000),
        ..Default::default()
    };
    let theirs = bucket.put(metadata, &mut &*bytes).await.unwrap();
    let path = store.file("tool", &bytes);

    let uploaded = store.up(&path).await.unwrap();

    assert!(!uploaded.fresh);
    let info = bucket.info(format!("{name}_latest")).await.unwrap();
    assert_eq!((&info.nuid, info.chunks), (&theirs.nuid, 5));
    assert_eq!(info.description.as_deref(), Some("tool"));
    assert!(info.modified > theirs.modified);
    let read = read(&uri(&uploaded.uri), &store.client, 300_000).await;
    assert!(read.unwrap() == bytes);
}

#[tokio::test]
async fn an_object_that_claims_to_be_huge_frees_no_room_by_that() {
    let store = store().await;
    let config = object_store::Config {
        bucket: BUCKET.into(),
        max_bytes: 1_000_000,
        ..Default::default()
    };
    store.context().create_object_store(config).await.unwrap();
    store
        .put_metadata(
            "liar",
            json!({ "size": u64::MAX, "mtime": "2020-01-01T00:00:00Z" }),
        )
        .await;
    for number in 0..3u8 {
        let mut bytes = content(250_000);
        bytes[0] = number;
        store
            .up(&store.file(&number.to_string(), &bytes))
            .await
            .unwrap();
    }

    let path = store.file("new", &content(400_000));
    let uploaded = store.up(&path).await.unwrap();

    assert!(
        read(&uri(&uploaded.uri), &store.client, 400_000)
            .await
            .is_ok()
    );
}
