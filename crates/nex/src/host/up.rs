//! `nex up`: a real nats-server, a node on it, its nexlets; one command, nothing configured.
//!
//! The order of a start: folder and lock, announcement, nats-server, connection, stream of the feeds, node,
//! nexlets; only then it is said to be ready. The order of a stop is the reverse.

use std::time::Instant;

use nex_client::{FeedLimits, FeedsStreamError};
use nex_credentials::Minter;
use nex_nats::{ConnectOptions, Connection, Reconnect};
use nex_node::RunningNode;
use nex_protocol::{NatsConnectionData, subject::PRIVATE_INBOX};
use nex_server::{DataDir, ManagedServer};
use serde_json::json;
use tracing::warn;

use super::{
    Signals, context_file, hinted,
    identity::{self, NodeSettings},
    nexlets, release_start_memory,
    server::Server,
};
use crate::{
    cli::{Reach, UpArgs, value},
    context::Context,
    error::{CommandError, CommandResult, Exit, Kind},
};

/// Logs and events may take this part of the free space: the server lets all streams together take
/// three quarters of it.
const SHARE_OF_FEEDS: u64 = 3;

/// Runs until a signal or a lame duck.
///
/// # Errors
/// When a part cannot be started for the first time; each says what to do.
pub(crate) async fn run(args: UpArgs, context: &Context) -> CommandResult {
    let began = Instant::now();
    let mut signals = Signals::install()?;
    let _reaper = nexlets::keep_orphans()?;

    let data_dir = open(&args, context)?;
    let mut server = tokio::select! {
        server = Server::start(&args, context, &data_dir) => server?,
        code = signals.next() => return Ok(Exit(code)),
    };
    let access = Access::of(&server.managed);
    let started = tokio::select! {
        started = start_node(&args, &data_dir, &access) => started,
        never = server.keep_running(None) => match never {},
        code = signals.next() => {
            server.stop().await;
            return Ok(Exit(code));
        }
    };
    let (node, connection) = match started {
        Ok(started) => started,
        Err(error) => {
            server.stop().await;
            return Err(error);
        }
    };
    let announced = match server.announce() {
        Ok(()) => tell_started(context, &args, &node, &server.managed, began),
        Err(error) => Err(error),
    };
    if announced.is_ok() {
        release_start_memory();
        tokio::select! {
            _ = signals.next() => {}
            () = node.ended() => {}
            never = server.keep_running(Some(&connection)) => match never {},
        }
    }
    context.printer.note("stopping; a second signal kills");
    server.announce_stop();
    let stop = async {
        tokio::select! {
            () = node.stop(nexlets::STOP_GRACE) => {}
            // The node says goodbye through it.
            never = server.keep_running(Some(&connection)) => match never {},
        }
        server.stop().await;
    };
    tokio::select! {
        () = stop => {}
        // Who asks twice wants no grace: our end cuts every lifeline.
        code = signals.next() => return Ok(Exit(code)),
    }
    announced.map(|()| Exit::OK)
}

fn open(args: &UpArgs, context: &Context) -> Result<DataDir, CommandError> {
    let path = match &args.data_dir {
        Some(path) => path.clone(),
        None => context.env.default_up_dir()?,
    };
    DataDir::open(&path).map_err(|error| hinted(&error, error.hint()))
}

/// The address and credentials by which the node reaches the server.
struct Access {
    creds: NatsConnectionData,
    minter: Minter,
}

impl Access {
    fn of(server: &ManagedServer) -> Self {
        Self {
            creds: server.node_creds(),
            minter: server.minter(),
        }
    }
}

/// Starts the node, and returns it with its connection.
async fn start_node(
    args: &UpArgs,
    data_dir: &DataDir,
    access: &Access,
) -> Result<(RunningNode, Connection), CommandError> {
    let settings = NodeSettings {
        name: args.node_name.clone(),
        nexus: args.nexus.clone(),
        tags: value::tags(&args.tags),
        // The server listens on 127.0.0.1 alone, so a remote nexlet is another program of ours.
        allow_remote: true,
        auction_ttl: nex_node::Config::DEFAULT_AUCTION_TTL,
        embedded: args.embedded,
        // All of it is one person's own.
        reach: Reach::Local,
        agents: args.agents.clone(),
    };
    let config = identity::config(&data_dir.node_identity(), data_dir.path(), settings)?;
    let mut options = ConnectOptions::from_data(&access.creds, &format!("node {}", config.name));
    options.reconnect = Reconnect::Forever;
    options.inbox_prefix = Some(PRIVATE_INBOX.to_owned());
    let connection = nex_nats::connect(&options)
        .await
        .map_err(|error| CommandError::from_error(Kind::Failed, &error))?;
    keep_feeds(&connection, data_dir).await?;
    let store = identity::store(args.state, &config, data_dir.path(), &connection).await?;
    let node = identity::start(config, connection.clone(), access.minter.clone(), store).await?;
    Ok((node, connection))
}

/// Makes the stream that keeps logs and events, before the first of them is published. On a small
/// disk it keeps less than usual, and leaves as much for other streams.
async fn keep_feeds(connection: &Connection, data_dir: &DataDir) -> Result<(), CommandError> {
    let usual = FeedLimits::default();
    let folder = data_dir.path().display();
    let free = nex_server::free_bytes(data_dir.path()).unwrap_or(u64::MAX);
    let room = free / SHARE_OF_FEEDS;
    let kept = nex_client::ensure_feeds_stream(connection.client(), usual, room)
        .await
        .map_err(|error| {
            let told = CommandError::failed("failed to make the stream of logs and events")
                .because(&error);
            match error {
                FeedsStreamError::NoSpace(_) => told.hint(format!(
                    "free space on the disk of {folder}, or choose another folder with `--data-dir`"
                )),
                _ => told,
            }
        })?;
    if kept < usual.max_bytes {
        let (kept, usual) = (kept >> 20, usual.max_bytes >> 20);
        warn!(
            "the disk of {folder} is small: {kept} MiB of logs and events are kept instead of {usual} MiB"
        );
    }
    Ok(())
}

/// Writes the context of the NATS CLI, and says on standard output what runs and what to type next.
fn tell_started(
    context: &Context,
    args: &UpArgs,
    node: &RunningNode,
    server: &ManagedServer,
    began: Instant,
) -> Result<(), CommandError> {
    let contexts = context.env.nats_context_dir()?;
    let written = context_file::write(&contexts, server.url(), server.creds_path());
    if let Err(error) = &written {
        warn!(%error, folder = %contexts.display(), "failed to write the NATS CLI context");
    }
    let ours = matches!(written, Ok(context_file::Written::Ours));
    tell_ready(context, args, node, server, ours, began)
}

fn tell_ready(
    context: &Context,
    args: &UpArgs,
    node: &RunningNode,
    server: &ManagedServer,
    context_written: bool,
    began: Instant,
) -> Result<(), CommandError> {
    let printer = &context.printer;
    let data_dir = server.running().data_dir;
    if printer.is_json() {
        return printer.json(&json!({
            "ready": true,
            "node_id": node.id(),
            "url": server.url(),
            "data_dir": data_dir,
            "creds": server.creds_path(),
            "anonymous": !args.no_anonymous,
            "nexlets": nexlets::types(&args.agents),
            "context": context_written.then_some("nex"),
        }));
    }
    let access = if args.no_anonymous {
        "with credentials only"
    } else {
        "this machine needs no credentials"
    };
    printer.line(format!(
        "nex is ready after {:.1} s\n",
        began.elapsed().as_secs_f64()
    ))?;
    printer.line(format!("  NATS      {}  {access}", server.url()))?;
    printer.line(format!("  node      {}", node.id()))?;
    printer.line(format!(
        "  nexlets   {}",
        nexlets::types(&args.agents).join(", ")
    ))?;
    printer.line(format!("  data      {}", data_dir.display()))?;
    if context_written {
        printer.line("  context   nex  (nats --context nex …)")?;
    }
    printer.line(
        "\nnext, in another terminal: nex devrun ./hello.js --trigger-subject hello\nCtrl-C stops all of it",
    )
}
