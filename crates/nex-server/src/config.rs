//! What nats-server is told: its configuration, and the accounts that it starts with.

use std::path::PathBuf;
use std::time::SystemTime;

use nex_credentials::{MintError, Permissions, jwt, mint_user};
use nex_protocol::NatsConnectionData;
use serde_json::json;

use crate::data_dir::DataDir;
use crate::files::{self, FileError};
use crate::identities::Identities;

/// Where the server listens. Never elsewhere: with a sentinel every bad credential gets in.
pub(crate) const HOST: &str = "127.0.0.1";

/// Upper bound of all streams in memory, in bytes.
const MAX_MEMORY_STORE_BYTES: u64 = 1024 * 1024 * 1024;

/// How large a log grows before the server starts another, and how many it keeps.
const LOG_BYTES: u64 = 8 * 1024 * 1024;
const LOG_FILES: u32 = 3;

/// How many accounts the server may hold. We make two.
const MAX_ACCOUNTS: u32 = 1000;

/// Why the server's files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A user or an account cannot be signed.
    #[error("failed to make the server's accounts")]
    Sign(#[from] jwt::SignError),
    /// A user cannot be made.
    #[error(transparent)]
    Mint(#[from] MintError),
}

/// The settings of one `nex up`, which stay over restarts of its server.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `true` where clients without credentials are let in.
    pub(crate) anonymous: bool,
    /// Upper bound of all streams on disk, in bytes.
    pub(crate) max_file_store: u64,
}

/// Where the server's parts are in a data folder.
pub(crate) struct Layout {
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) ports: PathBuf,
    pid: PathBuf,
    accounts: PathBuf,
    pub(crate) jetstream: PathBuf,
}

impl Layout {
    pub(crate) fn of(data_dir: &DataDir) -> Self {
        Self {
            config: data_dir.file("nats-server.conf"),
            log: data_dir.file("nats-server.log"),
            ports: data_dir.file("ports"),
            pid: data_dir.file("nats-server.pid"),
            accounts: data_dir.file("nats/accounts"),
            jetstream: data_dir.file("nats"),
        }
    }
}

/// JetStream's own name for this server; from the node's id, so that it stays.
pub(crate) fn server_name(data_dir: &DataDir) -> String {
    let node = data_dir.identities().node.public_key();
    format!("nex-{}", &node[..12])
}

/// Writes the configuration, and the accounts that are not there yet. `port` 0 is any free one.
pub(crate) fn write(
    data_dir: &DataDir,
    layout: &Layout,
    port: u16,
    options: &Options,
    now: SystemTime,
) -> Result<(), ConfigError> {
    let identities = data_dir.identities();
    files::make_folder(&data_dir.file("nats"))?;
    files::make_folder(&layout.ports)?;
    seed_accounts(identities, layout, now)?;

    let system_account = identities.system_account.public_key();
    let operator = jwt::Operator {
        name: "nex",
        system_account: &system_account,
    };
    let mut config = json!({
        "server_name": server_name(data_dir),
        "host": HOST,
        "port": if port == 0 { -1 } else { i32::from(port) },
        "operator": jwt::operator(&operator, &identities.operator, now)?,
        "system_account": system_account,
        // The full resolver over a folder that we seed, and never `resolver_preload`: only so does
        // an update of an account, such as a revocation, outlive a restart.
        "resolver": {
            "type": "full",
            "dir": layout.accounts,
            "allow_delete": false,
            "limit": MAX_ACCOUNTS,
        },
        "jetstream": {
            "store_dir": layout.jetstream,
            "max_memory_store": MAX_MEMORY_STORE_BYTES,
            "max_file_store": options.max_file_store,
        },
        "pid_file": layout.pid,
        "ports_file_dir": layout.ports,
        "log_file": layout.log,
        "logfile_size_limit": LOG_BYTES,
        "logfile_max_num": LOG_FILES,
    });
    if options.anonymous {
        let sentinel = user(
            identities,
            "anonymous",
            &Permissions::anonymous(),
            true,
            now,
        )?;
        config["default_sentinel"] = sentinel.nats_user_jwt.into();
    }
    // The server reads JSON as its own format.
    let text = serde_json::to_vec_pretty(&config).expect("paths and text are JSON");
    Ok(files::write(&layout.config, &text)?)
}

/// Writes the accounts' JWTs where the server has none. One that is there may have been updated
/// since.
fn seed_accounts(
    identities: &Identities,
    layout: &Layout,
    now: SystemTime,
) -> Result<(), ConfigError> {
    files::make_folder(&layout.accounts)?;
    let signing_keys = [identities.signing_key.public_key()];
    for (key, name, signing_keys, jetstream) in [
        (&identities.system_account, "SYS", &[][..], false),
        (&identities.account, "NEX", &signing_keys[..], true),
    ] {
        let subject = key.public_key();
        let path = layout.accounts.join(format!("{subject}.jwt"));
        if path.exists() {
            continue;
        }
        let account = jwt::Account {
            subject: &subject,
            name,
            signing_keys,
            jetstream,
        };
        let token = jwt::account(&account, &identities.operator, now)?;
        files::write(&path, token.as_bytes())?;
    }
    Ok(())
}

/// Makes a user of the applications' account. It never expires: whoever has the data folder could
/// make another, and those without it only learn users that a restart replaces.
pub(crate) fn user(
    identities: &Identities,
    name: &str,
    permissions: &Permissions,
    bearer: bool,
    now: SystemTime,
) -> Result<NatsConnectionData, MintError> {
    let account = identities.account.public_key();
    let user = jwt::User {
        subject: "",
        name,
        issuer_account: Some(&account),
        permissions,
        bearer,
        tags: &[],
        lifetime: None,
    };
    mint_user(user, &identities.signing_key, now)
}

/// Makes a user of the system account, which may do everything there.
pub(crate) fn system_user(
    identities: &Identities,
    now: SystemTime,
) -> Result<NatsConnectionData, MintError> {
    let user = jwt::User {
        subject: "",
        name: "nex",
        issuer_account: None,
        permissions: &Permissions::default(),
        bearer: false,
        tags: &[],
        lifetime: None,
    };
    mint_user(user, &identities.system_account, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(data_dir: &DataDir, port: u16, anonymous: bool) -> serde_json::Value {
        let layout = Layout::of(data_dir);
        let options = Options {
            anonymous,
            max_file_store: 1,
        };
        write(data_dir, &layout, port, &options, SystemTime::UNIX_EPOCH).unwrap();
        serde_json::from_slice(&std::fs::read(layout.config).unwrap()).unwrap()
    }

    #[test]
    fn the_server_listens_on_this_machine_only() {
        let home = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();

        let config = written(&data_dir, 0, true);

        assert_eq!(config["host"], "127.0.0.1");
        assert_eq!(config["port"], -1);
        for other in [
            "listen",
            "http",
            "https",
            "cluster",
            "leafnodes",
            "websocket",
            "mqtt",
        ] {
            assert_eq!(config.get(other), None, "{other}");
        }
        assert_eq!(config.get("resolver_preload"), None);
        assert!(config["default_sentinel"].is_string());
    }

    #[test]
    fn without_anonymous_users_there_is_no_sentinel() {
        let home = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();

        let config = written(&data_dir, 4222, false);

        assert_eq!(config.get("default_sentinel"), None);
        assert_eq!(config["port"], 4222);
    }

    #[test]
    fn an_account_that_is_there_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(&home.path().join("data")).unwrap();
        written(&data_dir, 0, true);
        let account = data_dir.account().public;
        let path = data_dir.file(&format!("nats/accounts/{account}.jwt"));
        std::fs::write(&path, "updated").unwrap();

        written(&data_dir, 0, true);

        assert_eq!(std::fs::read_to_string(&path).unwrap(), "updated");
    }
}
