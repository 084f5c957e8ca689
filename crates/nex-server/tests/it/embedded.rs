//! A binary that carries its nats-server.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use flate2::{Compression, write::GzEncoder};
use nex_server::{FindError, Source, find_binary};
use sha2::{Digest, Sha256};

use crate::helper;

const SERVER: &[u8] = b"#!/bin/sh\necho nats-server: v2.15.1\n";

/// A copy of the helper that carries [`SERVER`], which the trailer says has this hash.
fn carrier(folder: &std::path::Path, sha256: &[u8]) -> std::path::PathBuf {
    let exe = folder.join("nex");
    // Copied by another process: if this one had it open for writing while another test's thread
    // forks, the fork would keep it from being executed.
    let gzip = folder.join("payload");
    let mut payload = GzEncoder::new(Vec::new(), Compression::default());
    payload.write_all(SERVER).unwrap();
    let mut payload = payload.finish().unwrap();
    let length = u64::try_from(payload.len()).unwrap();
    payload.extend_from_slice(sha256);
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(b"NEXNATS1");
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(&gzip)
        .unwrap();
    file.write_all(&payload).unwrap();
    drop(file);
    let made = std::process::Command::new("/bin/sh")
        .args(["-c", r#"cat "$1" "$2" >"$3" && chmod 755 "$3""#, "sh"])
        .args([helper(), gzip.as_path(), exe.as_path()])
        .status()
        .unwrap();
    assert!(made.success());
    exe
}

#[tokio::test]
async fn the_carried_server_is_unpacked_once() {
    let home = tempfile::tempdir().unwrap();
    let exe = carrier(home.path(), &Sha256::digest(SERVER));
    let unpacked = home.path().join("state/bin");

    let first = find_binary(None, None, &unpacked, &exe, None)
        .await
        .unwrap();
    let inode = fs::metadata(&first.path).unwrap().ino();
    let second = find_binary(None, None, &unpacked, &exe, None)
        .await
        .unwrap();

    assert_eq!(first.source, Source::Embedded);
    assert_eq!(fs::read(&first.path).unwrap(), SERVER);
    assert_eq!(second, first);
    assert_eq!(fs::metadata(&second.path).unwrap().ino(), inode);
    assert_eq!(fs::read_dir(&unpacked).unwrap().count(), 1);
}

#[tokio::test]
async fn a_damaged_one_is_said_and_not_used() {
    let home = tempfile::tempdir().unwrap();
    let exe = carrier(home.path(), &[0; 32]);
    let unpacked = home.path().join("bin");

    let error = find_binary(None, None, &unpacked, &exe, None)
        .await
        .unwrap_err();

    assert!(matches!(error, FindError::Unpack { .. }), "{error}");
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!(fs::read_dir(&unpacked).unwrap().count(), 0);
}
