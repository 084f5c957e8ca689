//! From the credentials for registering to the connection to work on.

use std::{collections::BTreeMap, time::Duration};

use nex_nats::{ConnectError, ConnectOptions, Connection, Reconnect, read_error};
use nex_protocol::{
    ErrorCode, NODE_HEADER, Subject, WorkloadId,
    registration::{RegisterRequest, RegisterResponse},
    subject::PRIVATE_INBOX,
    workload::NexletStartWorkloadRequest,
};
use tracing::{debug, warn};

use super::RunnerConfig;
use crate::{chain::Chain, contract::Description};

/// How long the node may take to answer a registration; it mints credentials for every workload
/// that it hands over.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(30);
/// The shortest and the longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// For how long the connection with the working credentials is tried. After that they may have
/// expired, and a new process gets new ones.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Why a nexlet was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The node says no.
    #[error("the node refuses: {0}")]
    Refused(String),
    /// The node's answer makes no sense.
    #[error("failed to read the node's answer")]
    Unreadable(#[source] serde_json::Error),
}

/// What a node gives to a registered nexlet.
#[derive(Debug)]
pub(super) struct Registered {
    /// The connection to work on.
    pub(super) working: ConnectOptions,
    /// Workloads to take up again.
    pub(super) existing: Existing,
    /// `true` for a node of ours, which names itself in its answer and confirms ends.
    pub(super) confirms_ends: bool,
}

/// Workloads of a node that its nexlets are to run.
pub(super) type Existing = BTreeMap<WorkloadId, NexletStartWorkloadRequest>;

/// Registers; while the node is not there, again and again, until `limit` has passed. Then the
/// answer is `None`.
pub(super) async fn register(
    config: &RunnerConfig,
    description: &Description,
    limit: Option<Duration>,
) -> Result<Option<Registered>, RegisterError> {
    let deadline = limit.map(|limit| tokio::time::Instant::now() + limit);
    let mut pause = PAUSE.0;
    loop {
        match attempt(config, description).await {
            Attempt::Answered(answer) => return Ok(Some(registered(config, *answer?))),
            Attempt::NotThere(reason) if is_over(deadline) => {
                debug!(node = %config.node, %reason, "node is not there");
                return Ok(None);
            }
            Attempt::NotThere(reason) if pause < PAUSE.1 => {
                debug!(node = %config.node, %reason, "node is not there, trying again");
            }
            Attempt::NotThere(reason) => {
                warn!(node = %config.node, %reason, "node is not there, trying again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

fn is_over(deadline: Option<tokio::time::Instant>) -> bool {
    deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline)
}

/// Inboxes that workloads may not listen on: the node answers with credentials.
fn inbox_prefix(config: &RunnerConfig) -> Option<String> {
    let own = config.registration.inbox_prefix.clone();
    own.or_else(|| Some(PRIVATE_INBOX.to_owned()))
}

enum Attempt {
    Answered(Result<Box<Answer>, RegisterError>),
    NotThere(String),
}

/// A node's yes.
struct Answer {
    response: RegisterResponse,
    confirms_ends: bool,
}

async fn attempt(config: &RunnerConfig, description: &Description) -> Attempt {
    // The loop around this is the reconnection.
    let options = ConnectOptions {
        reconnect: Reconnect::Never,
        inbox_prefix: inbox_prefix(config),
        ..config.registration.clone()
    };
    let connection = match nex_nats::connect(&options).await {
        Ok(connection) => connection,
        Err(error) => return Attempt::NotThere(Chain(&error).to_string()),
    };
    let subject = Subject::Register(config.node.clone(), config.id.clone()).to_string();
    let request = async_nats::Request::new()
        .payload(registration(description).into())
        .timeout(Some(REGISTER_TIMEOUT));
    let reply = connection.client().send_request(subject, request).await;
    // Dropped rather than closed: the answer is here, so nothing is left to get out, and these
    // credentials may not make the round trip that a close begins with.
    drop(connection);
    match reply {
        Ok(reply) => read(&reply),
        Err(error) => Attempt::NotThere(Chain(&error).to_string()),
    }
}

fn registration(description: &Description) -> Vec<u8> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "the wire has a float here, as in Go"
    )]
    let max_workloads = description.max_workloads as f64;
    let request = RegisterRequest {
        description: description.description.clone(),
        max_workloads,
        name: description.name.clone(),
        public_xkey: String::new(),
        register_type: description.workload_type.clone(),
        start_request_schema: description.start_request_schema.to_string(),
        supported_lifecycles: description.lifecycles.clone(),
        tells_ends: true,
        version: description.version.clone(),
    };
    serde_json::to_vec(&request).expect("a registration is made of texts and numbers")
}

fn read(reply: &async_nats::Message) -> Attempt {
    match read_error(reply) {
        // It stops just now; it may come back.
        Some((ErrorCode::Busy, text)) => return Attempt::NotThere(text),
        Some((code, text)) => {
            let refused = RegisterError::Refused(format!("{text} (code {code})"));
            return Attempt::Answered(Err(refused));
        }
        None => {}
    }
    let response = serde_json::from_slice::<RegisterResponse>(&reply.payload);
    let headers = reply.headers.as_ref();
    let confirms_ends = headers.is_some_and(|headers| headers.get(NODE_HEADER).is_some());
    Attempt::Answered(match response {
        Ok(response) if response.success => Ok(Box::new(Answer {
            response,
            confirms_ends,
        })),
        Ok(response) => Err(RegisterError::Refused(response.message)),
        Err(error) => Err(RegisterError::Unreadable(error)),
    })
}

fn registered(config: &RunnerConfig, answer: Answer) -> Registered {
    let Answer {
        mut response,
        confirms_ends,
    } = answer;
    if let Some(route) = &config.route {
        route.replace_in(&mut response.connection_data);
    }
    let name = format!("nexlet {}", config.id);
    let mut working = ConnectOptions::from_data(&response.connection_data, &name);
    // What a node leaves out is as for the registration: it got us to this server.
    if response.connection_data.nats_servers.is_empty() {
        working.servers.clone_from(&config.registration.servers);
    }
    if response.connection_data.tls_ca.is_empty() && response.connection_data.tls_cert.is_empty() {
        working.tls = config.registration.tls.clone();
    }
    working.reconnect = Reconnect::Forever;
    working.inbox_prefix = inbox_prefix(config);
    Registered {
        working,
        existing: response.existing_state,
        confirms_ends,
    }
}

/// Connects with the working credentials, again and again for a while.
pub(super) async fn connect(options: &ConnectOptions) -> Result<Connection, ConnectError> {
    let deadline = tokio::time::Instant::now() + CONNECT_LIMIT;
    let mut pause = PAUSE.0;
    loop {
        match nex_nats::connect(options).await {
            Ok(connection) => return Ok(connection),
            Err(error) if tokio::time::Instant::now() + pause > deadline => return Err(error),
            Err(error) => debug!(error = %Chain(&error), "cannot connect, trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
