//! The built-in nexlets: how a node is told to start them, and how one runs as a child process.

use std::{
    cell::Cell,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nex_node::{LocalNexlet, NexletPlan};
use nex_process::{Launcher, Reaper};
use nex_protocol::NexusName;
use nexlet::{End, Nexlet, RemoteError, RunRemoteError, RunnerConfig};
use nexlet_js::Policy;

use super::Signals;
use crate::{
    cli::{AgentArgs, NexletRunArgs, Reach},
    connect,
    context::Context,
    error::{CommandError, CommandResult, Exit, Kind},
};

/// How long a nexlet and its workloads may take to end: the longest grace of a workload, and then
/// some for the nexlet itself.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long the workloads of a nexlet may take to end when its node has died: nothing is to outlive
/// its owner by five seconds.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// How long a nexlet without a node may take to say goodbye after its workloads have ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The types that the binary can run, in the order in which they are shown.
const TYPES: [&str; 3] = ["js", "native", "wasm"];

/// The types of the built-in nexlets that a node starts.
pub(super) fn types(args: &AgentArgs) -> Vec<&'static str> {
    let types = TYPES.into_iter();
    types.filter(|it| !args.leaves_out(it)).collect()
}

/// The plans for the built-in nexlets of these types, each with a folder of its own below
/// `data_dir`.
///
/// # Errors
/// When a folder cannot be made, or our own executable cannot be found.
pub(super) fn plans(
    types: &[&str],
    data_dir: &Path,
    embedded: bool,
    reach: Reach,
) -> Result<Vec<NexletPlan>, CommandError> {
    let executable = own_executable()?;
    types
        .iter()
        .copied()
        .map(|workload_type| {
            let folder = data_dir.join("nexlets").join(workload_type);
            make(&folder)?;
            Ok(if embedded {
                embedded_plan(workload_type, folder, reach)?
            } else {
                local_plan(workload_type, folder, &executable, reach)
            })
        })
        .collect()
}

fn make(folder: &Path) -> Result<(), CommandError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| unusable(folder, &error))
}

/// What glibc's allocator reads when a process starts; others do not know it.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// How many freed pieces of each size a thread keeps for itself. With glibc's 7, most of what a batch of
/// 64 messages needs and frees goes through the heaps that all threads share.
const FREED_PIECES_KEPT: &str = "glibc.malloc.tcache_count=256";

fn local_plan(workload_type: &str, folder: PathBuf, executable: &Path, reach: Reach) -> NexletPlan {
    let mut args = vec![
        "nexlet".to_owned(),
        "run".to_owned(),
        workload_type.to_owned(),
        "--data-dir".to_owned(),
        folder.display().to_string(),
    ];
    if reach == Reach::Local {
        args.extend(["--reach".to_owned(), "local".to_owned()]);
    }
    NexletPlan::Local(LocalNexlet {
        workload_type: workload_type.to_owned(),
        program: executable.to_owned(),
        args,
        env: vec![(TUNABLES.to_owned(), FREED_PIECES_KEPT.to_owned())],
        cwd: folder,
    })
}

fn embedded_plan(
    workload_type: &str,
    folder: PathBuf,
    reach: Reach,
) -> Result<NexletPlan, CommandError> {
    Ok(if workload_type == "js" {
        NexletPlan::embedded(workload_type, move || {
            Arc::new(nexlet_js::nexlet(js_config(reach)))
        })
    } else if workload_type == nexlet_wasm::WORKLOAD_TYPE {
        let config = nexlet_wasm::WasmConfig::new(folder);
        NexletPlan::embedded(workload_type, move || {
            Arc::new(nexlet_wasm::nexlet(config.clone()))
        })
    } else {
        let config = nexlet_native::NativeConfig {
            data_dir: folder,
            launcher: launcher()?,
        };
        NexletPlan::embedded(workload_type, move || {
            Arc::new(nexlet_native::nexlet(config.clone()))
        })
    })
}

fn js_config(reach: Reach) -> nexlet_js::JsConfig {
    let policy = match reach {
        Reach::Local => Policy::LOCAL,
        Reach::Public => Policy::default(),
    };
    nexlet_js::JsConfig {
        policy,
        ..nexlet_js::JsConfig::default()
    }
}

/// `nex nexlet run TYPE`: the child process that a node starts for a nexlet, which ends when its
/// lifeline does; with `--remote` a process that a person starts. Both end on SIGTERM too.
///
/// # Errors
/// When it was not started by a node, finds none, or its node refuses it.
pub(crate) async fn run(args: NexletRunArgs, context: &Context) -> CommandResult {
    let workload_type = args.workload_type.as_str();
    if !TYPES.contains(&workload_type) {
        return Err(
            CommandError::usage(format!("no built-in nexlet runs `{workload_type}`"))
                .hint(format!("the built-in ones run {}", TYPES.join(", "))),
        );
    }
    let _reaper = keep_orphans()?;
    let signals = Signals::install()?;
    let data_dir = match args.data_dir {
        Some(folder) => folder,
        None => context.env.default_nexlet_dir(workload_type)?,
    };
    let belongs = match &args.nexus {
        None => {
            let config =
                RunnerConfig::from_environment(|name| context.env.text(name).ok().flatten());
            Belongs::To(config.map_err(|error| {
                CommandError::from_error(Kind::Usage, &error).hint(
                    "`nex up` and `nex node up` start the nexlets of their node; for a node \
                     elsewhere: `--remote --nexus NAME`",
                )
            })?)
        }
        Some(nexus) => {
            make(&data_dir)?;
            let mut found = connect::find(context).await?;
            found.options.name = format!("nexlet {workload_type}");
            Belongs::Anywhere {
                found,
                nexus: nexus.clone(),
                note: Box::new(|config: &RunnerConfig| {
                    let (id, node) = (&config.id, &config.node);
                    let note = format!("nexlet {id} for `{workload_type}` belongs to node {node}");
                    context.printer.note(note);
                }),
            }
        }
    };

    let ran = if workload_type == "js" {
        let nexlet = nexlet_js::nexlet(js_config(args.reach));
        serve(nexlet, belongs, signals, context).await
    } else if workload_type == nexlet_wasm::WORKLOAD_TYPE {
        let nexlet = nexlet_wasm::nexlet(nexlet_wasm::WasmConfig::new(data_dir));
        serve(nexlet, belongs, signals, context).await
    } else {
        let launcher = launcher()?;
        let nexlet = nexlet_native::nexlet(nexlet_native::NativeConfig { data_dir, launcher });
        serve(nexlet, belongs, signals, context).await
    };
    ran.map(|()| Exit::OK)
}

/// Whose nexlet this is.
enum Belongs<'a> {
    /// That of the node that started it.
    To(RunnerConfig),
    /// That of any node of a nexus.
    Anywhere {
        /// Where to ask.
        found: connect::Found,
        /// Whom to ask.
        nexus: NexusName,
        /// Hears which node it is.
        note: Box<dyn Fn(&RunnerConfig) + 'a>,
    },
}

async fn serve<N: Nexlet>(
    nexlet: N,
    belongs: Belongs<'_>,
    signals: Signals,
    context: &Context,
) -> Result<(), CommandError> {
    let nexlet = Arc::new(nexlet);
    let end = End::default();
    let signalled = Cell::new(false);
    let remote = matches!(belongs, Belongs::Anywhere { .. });
    let running = async {
        match belongs {
            Belongs::To(config) => nexlet::run(nexlet, config, end.clone())
                .await
                .map_err(|error| CommandError::from_error(Kind::Failed, &error)),
            Belongs::Anywhere { found, nexus, note } => {
                nexlet::run_remote(nexlet, &found.options, &nexus, end.clone(), note)
                    .await
                    .map_err(|error| explain(error, &found, context))
            }
        }
    };
    let ran = tokio::select! {
        ran = running => ran,
        () = order(&end, signals, remote, &signalled) => Ok(()),
    };
    if remote && ran.is_ok() && !signalled.get() {
        let printer = &context.printer;
        printer.note("the node has drained this nexlet, so it ends");
    }
    ran
}

fn explain(error: RunRemoteError, found: &connect::Found, context: &Context) -> CommandError {
    match error {
        RunRemoteError::Find(RemoteError::Connect(error)) => {
            connect::explain(&error, found, context)
        }
        RunRemoteError::Find(error) => CommandError::from_error(Kind::Failed, &error),
        RunRemoteError::Run(error) => CommandError::from_error(Kind::Failed, &error),
    }
}

/// Ends a nexlet: in its own time where its node asks for it, in a short one where the node has
/// died, and at once where it dies while it waits or somebody asks twice. Resolves when a nexlet
/// without a node has had its time.
async fn order(end: &End, mut signals: Signals, remote: bool, signalled: &Cell<bool>) {
    let lifeline = async {
        match nex_process::lifeline() {
            Ok(lifeline) if !remote => lifeline.await,
            // Somebody else than a node started us; then only signals end us.
            _ => std::future::pending().await,
        }
    };
    tokio::pin!(lifeline);
    tokio::select! {
        () = &mut lifeline => end.order(ORPHAN_GRACE),
        _ = signals.next() => {
            signalled.set(true);
            end.order(End::GRACE);
            tokio::select! {
                () = &mut lifeline => {}
                _ = signals.next() => {}
            }
            end.order(Duration::ZERO);
        }
    }
    end.workloads_ended().await;
    // A nats-server that has died with the node takes no last words: they are not waited for.
    tokio::time::sleep(LAST_WORDS).await;
}

/// Makes this process the one to which orphans of its workloads are handed, so that none of them
/// gets away to the machine's init.
///
/// # Errors
/// When the system refuses.
pub(super) fn keep_orphans() -> Result<Reaper, CommandError> {
    Reaper::install().map_err(|error| {
        CommandError::failed("failed to become the keeper of orphans").because(&error)
    })
}

/// What starts process trees: this very program, also when its file was replaced meanwhile.
///
/// # Errors
/// When the system does not tell where it is.
pub(super) fn launcher() -> Result<Launcher, CommandError> {
    Launcher::of_this_program()
        .map_err(|error| CommandError::failed("failed to find our own executable").because(&error))
}

/// The path of the running program, for children that are this program too.
///
/// # Errors
/// When the system does not tell.
pub(super) fn own_executable() -> Result<PathBuf, CommandError> {
    std::env::current_exe()
        .map_err(|error| CommandError::failed("failed to find our own executable").because(&error))
}

/// Says that a folder of ours cannot be used.
pub(super) fn unusable(folder: &Path, error: &io::Error) -> CommandError {
    CommandError::failed(format!("failed to use the folder `{}`", folder.display()))
        .because(error)
        .hint("name another one with `--data-dir`")
}
