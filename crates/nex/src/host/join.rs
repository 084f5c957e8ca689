//! `nex node up`: the same node on a NATS that somebody else runs.

use std::{
    io,
    path::{Path, PathBuf},
    thread,
};

use nex_client::Client;
use nex_credentials::{Minter, TlsFiles, WorkloadGrant};
use nex_nats::{Connection, Reconnect};
use nex_node::RunningNode;
use nex_protocol::{Namespace, NatsConnectionData, NodeId, subject::PRIVATE_INBOX};
use nex_server::DataDir;
use nkeys::{KeyPair, KeyPairType, XKey};
use serde_json::json;

use super::{
    Signals, hinted,
    identity::{self, NodeSettings},
    nexlets, release_start_memory,
};
use crate::{
    cli::{IssuerArgs, NodeUpArgs, Reach, value},
    command::logs,
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit, Kind},
    print::Printer,
};

/// Runs until a signal or a lame duck.
///
/// # Errors
/// When NATS is not there, or a part cannot be started.
pub(crate) async fn run(args: NodeUpArgs, context: &Context) -> CommandResult {
    let mut signals = Signals::install()?;
    let _reaper = nexlets::keep_orphans()?;
    let data_dir = open(args.data_dir.as_deref(), context)?;
    let mut kept = data_dir.node_identity();
    let place = |key: &str, flag: &str| context.settings.place(key, flag);
    if let Some(seed) = &args.node_seed {
        key(
            seed,
            KeyPairType::Server,
            &place("node_seed", "--node-seed"),
        )?;
        kept.seed.clone_from(seed);
    }
    if let Some(seed) = &args.node_xkey_seed {
        let place = place("node_xkey_seed", "--node-xkey-seed");
        XKey::from_seed(seed).map_err(|error| no_seed(&place).because(&error))?;
        kept.curve_seed.clone_from(seed);
    }
    let settings = NodeSettings {
        name: args.node_name.clone(),
        nexus: args.nexus.clone(),
        tags: value::tags(&args.tags),
        allow_remote: args.allow_remote_agent_registration,
        auction_ttl: args.auction_ttl.0,
        embedded: args.embedded,
        // Others share this NATS, and maybe this network.
        reach: Reach::Public,
        agents: args.agents.clone(),
    };
    let config = identity::config(&kept, data_dir.path(), settings)?;

    // Fails fast when NATS is not there at all; from then on the node reconnects forever.
    let mut found = connect::find(context).await?;
    let tls = &mut found.options.tls;
    for path in [&mut tls.ca, &mut tls.cert, &mut tls.key] {
        // They are handed to nexlets, which run in folders of their own.
        *path = path.take().map(absolute).transpose()?;
    }
    connect::connect(context).await?.close().await;
    found.options.reconnect = Reconnect::Forever;
    found
        .options
        .inbox_prefix
        .get_or_insert_with(|| PRIVATE_INBOX.to_owned());
    found.options.name = format!("node {}", config.name);
    let connection = nex_nats::connect(&found.options)
        .await
        .map_err(|error| connect::explain(&error, &found, context))?;
    let minter = minter(&args.issuer, &connection, context)?;
    let url = connection.url();
    let client = Client::new(connection.client().clone(), Namespace::system());

    let store = identity::store(args.state, &config, data_dir.path(), &connection).await?;
    let node = tokio::select! {
        node = identity::start(config, connection, minter, store) => node?,
        code = signals.next() => return Ok(Exit(code)),
    };
    let types = nexlets::types(&args.agents);
    tell_ready(context, &node, &url, data_dir.path(), &types)?;
    release_start_memory();
    if args.go.show_workload_logs {
        show_logs(client, node.id().clone(), context.printer)?;
    }
    tokio::select! {
        _ = signals.next() => {}
        () = node.ended() => {}
    }
    context.printer.note("stopping; a second signal kills");
    tokio::select! {
        () = node.stop(nexlets::STOP_GRACE) => Ok(Exit::OK),
        code = signals.next() => Ok(Exit(code)),
    }
}

/// Prints what workloads write, also while they end, on a thread of its own: whoever reads may stop
/// reading, and the node is to run on.
fn show_logs(client: Client, node: NodeId, printer: Printer) -> Result<(), CommandError> {
    let failed = |error: &io::Error| {
        CommandError::new(Kind::Internal, "failed to start a thread").because(error)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let show = move || {
        let showing = logs::follow_node(&client, &node, &printer);
        if let Err(error) = runtime.block_on(showing) {
            printer.error(&error);
        }
    };
    let thread = thread::Builder::new().name("workload-logs".to_owned());
    thread.spawn(show).map_err(|error| failed(&error))?;
    Ok(())
}

fn absolute(path: PathBuf) -> Result<PathBuf, CommandError> {
    std::path::absolute(&path).map_err(|error| {
        CommandError::failed(format!("failed to find `{}`", path.display())).because(&error)
    })
}

fn open(data_dir: Option<&Path>, context: &Context) -> Result<DataDir, CommandError> {
    let path: PathBuf = match data_dir {
        Some(path) => path.to_owned(),
        None => context.env.default_node_dir()?,
    };
    DataDir::open(&path).map_err(|error| hinted(&error, error.hint()))
}

/// Who makes the credentials of nexlets and workloads, as in Go: a signing key, one nkey for all,
/// or the node's own data.
fn minter(
    issuer: &IssuerArgs,
    connection: &Connection,
    context: &Context,
) -> Result<Minter, CommandError> {
    let place = |key: &str, flag: &str| context.settings.place(key, flag);
    let own = connection.data().to_data().map_err(|error| {
        CommandError::from_error(Kind::Failed, &error)
            .hint("give the node credentials that it can hand to its nexlets")
    })?;
    if let (Some(seed), Some(account)) = (&issuer.signing_key, &issuer.signing_key_root_account) {
        let place = place("issuer_signing_key", "--issuer-signing-key");
        let signing_key = key(seed, KeyPairType::Account, &place)?;
        return Ok(Minter::SigningKey {
            signing_key,
            account: account.clone(),
            servers: own.nats_servers,
            tls: TlsFiles {
                ca: own.tls_ca,
                cert: own.tls_cert,
                key: own.tls_key,
                first: own.tls_first,
            },
            grant: WorkloadGrant::Narrow,
        });
    }
    if let (Some(nkey), Some(seed)) = (&issuer.nkey, &issuer.nkey_seed) {
        let place = place("issuer_nkey_seed", "--issuer-nkey-seed");
        key(seed, KeyPairType::User, &place)?;
        return Ok(Minter::PassThrough(NatsConnectionData {
            nats_user_nkey: nkey.clone(),
            nats_user_seed: seed.clone(),
            nats_user_jwt: String::new(),
            nats_user_name: String::new(),
            nats_user_password: String::new(),
            ..own
        }));
    }
    Ok(Minter::PassThrough(own))
}

/// Reads a seed. `place` is where it was given.
fn key(seed: &str, wanted: KeyPairType, place: &str) -> Result<KeyPair, CommandError> {
    let key = KeyPair::from_seed(seed).map_err(|error| no_seed(place).because(&error))?;
    if key.key_pair_type() == wanted {
        Ok(key)
    } else {
        Err(no_seed(place))
    }
}

fn no_seed(place: &str) -> CommandError {
    CommandError::usage(format!("{place} is no seed of the wanted kind"))
}

fn tell_ready(
    context: &Context,
    node: &RunningNode,
    url: &str,
    data_dir: &Path,
    types: &[&str],
) -> Result<(), CommandError> {
    let printer = &context.printer;
    if printer.is_json() {
        return printer.json(&json!({
            "ready": true,
            "node_id": node.id(),
            "url": url,
            "data_dir": data_dir,
            "nexlets": types,
        }));
    }
    printer.line("nex node is ready\n")?;
    printer.line(format!("  NATS      {url}"))?;
    printer.line(format!("  node      {}", node.id()))?;
    printer.line(format!("  nexlets   {}", types.join(", ")))?;
    printer.line(format!("  data      {}", data_dir.display()))
}
