//! The managed server, with the real nats-server.
#![expect(
    clippy::unwrap_used,
    reason = "a test's own functions may panic as the test may"
)]

mod access;
mod embedded;
mod life;
mod peer;

use std::path::Path;
use std::time::Duration;

use nex_process::Launcher;
use nex_server::{Config, DataDir, ManagedServer, Port, ServerBinary, StartError};

/// How long an outcome may take that should come at once.
const LIMIT: Duration = Duration::from_secs(10);

/// What ends a server; it needs a few milliseconds of it.
const GRACE: Duration = Duration::from_secs(5);

fn helper() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_nex-server-test-helper"))
}

async fn binary() -> ServerBinary {
    let path = nex_testkit::nats_server().unwrap_or_else(|error| panic!("{error:#}"));
    let nowhere = Path::new("/nowhere");
    nex_server::find_binary(Some(&path), None, nowhere, nowhere, None)
        .await
        .unwrap()
}

async fn start_with(
    data_dir: &DataDir,
    port: Port,
    anonymous: bool,
) -> Result<ManagedServer, StartError> {
    let config = Config {
        port,
        anonymous,
        binary: binary().await,
        launcher: Launcher::new(helper()),
    };
    nex_server::start(config, data_dir).await
}

/// A folder, and the server in it on a free port.
struct Up {
    home: tempfile::TempDir,
    data_dir: DataDir,
    server: ManagedServer,
}

impl Up {
    async fn start(anonymous: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self::start_in(home, anonymous).await
    }

    async fn start_in(home: tempfile::TempDir, anonymous: bool) -> Self {
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();
        let server = start_with(&data_dir, Port::Free, anonymous).await.unwrap();
        Self {
            home,
            data_dir,
            server,
        }
    }

    /// Ends it and starts it again as a new process would.
    async fn restart(self, anonymous: bool) -> Self {
        Self::start_in(self.end().await, anonymous).await
    }

    /// Ends it; the folder stays.
    async fn end(self) -> tempfile::TempDir {
        self.server.stop(GRACE).await;
        self.home
    }
}
