//! `nex up`: a real nats-server, a node on it, its nexlets; one command, nothing configured.
//!
//! The order of a start: folder and lock, nats-server, connection, stream of the feeds, node,
//! nexlets; only then it is said to be ready. The order of a stop is the reverse.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nex_client::FeedLimits;
use nex_nats::{ConnectOptions, Connection, Reconnect};
use nex_node::RunningNode;
use nex_protocol::subject::PRIVATE_INBOX;
use nex_server::{Announcement, DataDir, ManagedServer, Port, ServerBinary};
use serde_json::json;
use tracing::warn;

use super::{
    Signals, context_file, hinted,
    identity::{self, NodeSettings},
    nexlets,
};
use crate::{
    cli::{Reach, UpArgs, value},
    context::Context,
    error::{CommandError, CommandResult, Exit, Kind},
};

/// How long nats-server may take to end after it was asked to.
const SERVER_GRACE: Duration = Duration::from_secs(5);

/// How soon after a start another end of nats-server counts as a failure that a new start will
/// not mend.
const SERVER_STABLE: Duration = Duration::from_secs(10);

/// How often in a row nats-server is started again before it ran for [`SERVER_STABLE`].
const SERVER_RESTARTS: u32 = 5;

/// Runs until a signal, a lame duck or an end of nats-server that cannot be mended.
///
/// # Errors
/// When a part cannot be started; each says what to do.
pub(crate) async fn run(args: UpArgs, context: &Context) -> CommandResult {
    let began = Instant::now();
    let mut signals = Signals::install()?;
    let _reaper = nexlets::keep_orphans()?;

    let data_dir = open(&args, context)?;
    let mut server = Server::start(&args, context, &data_dir).await?;
    let started = tokio::select! {
        started = start_node(&args, &data_dir, &server.managed) => started,
        code = signals.next() => {
            server.stop().await;
            return Ok(Exit(code));
        }
    };
    let node = match started {
        Ok(node) => node,
        Err(error) => {
            server.stop().await;
            return Err(error);
        }
    };
    let ended = match announce(context, &args, &node, &server.managed, began) {
        Ok(_announcement) => tokio::select! {
            _ = signals.next() => Ended::Signal,
            () = node.ended() => Ended::Lameduck,
            error = server.keep_running() => Ended::Failed(error),
        },
        Err(error) => Ended::Failed(error),
    };
    context.printer.note("stopping; a second signal kills");
    let stop = async {
        node.stop(nexlets::STOP_GRACE).await;
        server.stop().await;
    };
    tokio::select! {
        () = stop => {}
        // Who asks twice wants no grace: our end cuts every lifeline.
        code = signals.next() => return Ok(Exit(code)),
    }
    match ended {
        Ended::Signal | Ended::Lameduck => Ok(Exit::OK),
        Ended::Failed(error) => Err(error),
    }
}

/// Why it does not run any more.
enum Ended {
    /// A person or a service manager asked.
    Signal,
    /// The node was drained.
    Lameduck,
    /// A part failed and could not be mended.
    Failed(CommandError),
}

fn open(args: &UpArgs, context: &Context) -> Result<DataDir, CommandError> {
    let path = match &args.data_dir {
        Some(path) => path.clone(),
        None => context.env.default_up_dir()?,
    };
    DataDir::open(&path).map_err(|error| hinted(&error, error.hint()))
}

/// The managed nats-server, started again when it ends on its own.
struct Server<'a> {
    managed: ManagedServer,
    data_dir: &'a DataDir,
    config: nex_server::Config,
}

impl<'a> Server<'a> {
    async fn start(
        args: &UpArgs,
        context: &Context,
        data_dir: &'a DataDir,
    ) -> Result<Self, CommandError> {
        let executable = nexlets::own_executable()?;
        let binary = find_binary(args, context, data_dir, &executable).await?;
        let config = nex_server::Config {
            port: match args.port {
                0 => Port::Free,
                port => Port::Fixed(port),
            },
            anonymous: !args.no_anonymous,
            binary,
            launcher: nexlets::launcher()?,
        };
        let managed = nex_server::start(config.clone(), data_dir)
            .await
            .map_err(|error| hinted(&error, error.hint()))?;
        Ok(Self {
            managed,
            data_dir,
            config,
        })
    }

    /// Waits for ends of the server and starts it again. Resolves only when that does not help.
    async fn keep_running(&mut self) -> CommandError {
        let mut in_a_row = 0;
        loop {
            let started = Instant::now();
            let exit = self.managed.wait().await;
            in_a_row = if started.elapsed() > SERVER_STABLE {
                1
            } else {
                in_a_row + 1
            };
            if in_a_row > SERVER_RESTARTS {
                return CommandError::failed("nats-server ended again and again")
                    .cause(exit.to_string())
                    .hint(format!(
                        "look into `{}`",
                        self.data_dir.path().join("nats-server.log").display()
                    ));
            }
            warn!(%exit, in_a_row, "nats-server ended, starting it again");
            match nex_server::start(self.config.clone(), self.data_dir).await {
                Ok(managed) => self.managed = managed,
                Err(error) => return hinted(&error, error.hint()),
            }
        }
    }

    async fn stop(self) {
        self.managed.stop(SERVER_GRACE).await;
    }
}

async fn find_binary(
    args: &UpArgs,
    context: &Context,
    data_dir: &DataDir,
    executable: &Path,
) -> Result<ServerBinary, CommandError> {
    nex_server::find_binary(
        args.nats_server.as_deref(),
        context.env.var("NEX_NATS_SERVER"),
        data_dir.path(),
        executable,
        context.env.var("PATH"),
    )
    .await
    .map_err(|error| hinted(&error, error.hint()))
}

async fn start_node(
    args: &UpArgs,
    data_dir: &DataDir,
    server: &ManagedServer,
) -> Result<RunningNode, CommandError> {
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
    let mut options =
        ConnectOptions::from_data(&server.node_creds(), &format!("node {}", config.name));
    options.reconnect = Reconnect::Forever;
    options.inbox_prefix = Some(PRIVATE_INBOX.to_owned());
    let connection = nex_nats::connect(&options)
        .await
        .map_err(|error| CommandError::from_error(Kind::Failed, &error))?;
    keep_feeds(&connection).await?;
    let store = identity::store(args.state, &config, data_dir.path(), &connection).await?;
    identity::start(config, connection, server.minter(), store).await
}

/// Makes the stream that keeps logs and events, before the first of them is published.
async fn keep_feeds(connection: &Connection) -> Result<(), CommandError> {
    nex_client::ensure_feeds_stream(connection.client(), FeedLimits::default())
        .await
        .map_err(|error| {
            CommandError::failed("failed to make the stream of logs and events").because(&error)
        })
}

/// Lets others find us, and says on standard output what runs and what to type next.
fn announce(
    context: &Context,
    args: &UpArgs,
    node: &RunningNode,
    server: &ManagedServer,
    began: Instant,
) -> Result<Announcement, CommandError> {
    let announcement = server
        .running()
        .announce(&context.env.up_registry_dir()?)
        .map_err(|error| CommandError::from_error(Kind::Failed, &error))?;
    let contexts = context.env.nats_context_dir()?;
    let written = context_file::write(&contexts, server.url(), server.creds_path());
    if let Err(error) = &written {
        warn!(%error, folder = %contexts.display(), "failed to write the NATS CLI context");
    }
    let ours = matches!(written, Ok(context_file::Written::Ours));
    tell_ready(context, args, node, server, ours, began)?;
    Ok(announcement)
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
