//! Uploads and fetches against a real server.

#[cfg(test)]
mod damaged;
mod store;
#[cfg(test)]
mod uploads;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{
    Client,
    jetstream::{self, stream::Stream},
};
use nex_artifact::{ArtifactUri, Cache, UploadError, upload};
use nex_testkit::NatsServer;

const BUCKET: &str = "NEXCLIFILES";
/// Limit for what takes no wait for somebody else, here on a busy machine.
const SOON: Duration = Duration::from_millis(2500);

struct Store {
    server: NatsServer,
    client: Client,
    dir: tempfile::TempDir,
}

async fn store() -> Store {
    start(NatsServer::builder().jetstream(true)).await
}

async fn start(builder: nex_testkit::NatsServerBuilder) -> Store {
    let server = builder.start();
    let client = async_nats::connect(server.url()).await.expect("a server");
    let dir = tempfile::tempdir().expect("a folder");
    Store {
        server,
        client,
        dir,
    }
}

impl Store {
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).expect("a file");
        path
    }

    fn cache(&self) -> (PathBuf, Cache) {
        let dir = self.dir.path().join("cache");
        (dir.clone(), Cache::new(dir))
    }

    fn context(&self) -> jetstream::Context {
        jetstream::new(self.client.clone())
    }

    /// The stream of the bucket.
    async fn stream(&self) -> Stream {
        let stream = self.context().get_stream(format!("OBJ_{BUCKET}")).await;
        stream.expect("a bucket")
    }

    async fn up(&self, path: &Path) -> Result<nex_artifact::Uploaded, UploadError> {
        upload(&self.client, BUCKET, path, |_, _| {}).await
    }
}

fn content(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn uri(text: &str) -> ArtifactUri {
    text.parse().expect("a valid uri")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect()
}
