//! A remote nexlet finds a node: it asks a nexus, and one of its nodes gives it an id.

use std::{sync::Arc, time::Duration};

use async_nats::RequestErrorKind;
use nex_nats::{ConnectError, ConnectOptions, Connection, Reconnect, read_error};
use nex_protocol::{
    ErrorCode, NexusName, Subject,
    registration::{RegisterRemoteRequest, RegisterRemoteResponse},
    subject::PRIVATE_INBOX,
};
use tracing::{debug, warn};

use super::{End, Route, RunError, RunnerConfig, Stay, stay};
use crate::{chain::Chain, contract::Nexlet, ends::Memory};

/// How long a node may take to answer, as in Go.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The shortest and the longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a node may take to register a nexlet that it has just given an id. It may have ended.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(3);

/// Why a remote nexlet got no node.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// NATS is not there, or does not know us.
    #[error("failed to connect to NATS")]
    Connect(#[source] ConnectError),
    /// NATS lets these credentials not ask.
    #[error("NATS does not let us ask nexus `{0}`: want credentials that may register nexlets")]
    NotAllowed(NexusName),
    /// A node says no.
    #[error("nexus `{nexus}` refuses: {text} (code {code})")]
    Refused {
        /// The nexus.
        nexus: NexusName,
        /// The code on the wire.
        code: ErrorCode,
        /// The node's words.
        text: String,
    },
    /// The answer makes no sense.
    #[error("failed to read the answer of nexus `{nexus}`")]
    Unreadable {
        /// The nexus.
        nexus: NexusName,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// Why a remote nexlet ended.
#[derive(Debug, thiserror::Error)]
pub enum RunRemoteError {
    /// It got no node.
    #[error("failed to find a node")]
    Find(#[source] RemoteError),
    /// It cannot run.
    #[error("failed to run")]
    Run(#[source] RunError),
}

/// Asks a nexus for a node, as [`RunnerConfig::remote`], and serves the one that it gets until
/// `end`, as [`run`](super::run). `assigned` hears of each node.
///
/// A nexlet with workloads stays with its node, also while that is away. One without asks the nexus
/// again: when the node was gone before the nexlet had registered, and when no heartbeat of the
/// node came for half a minute. One that was told to drain ends when its node has.
///
/// # Errors
/// [`RunRemoteError`] where asking again would not help.
pub async fn run_remote<N: Nexlet>(
    nexlet: Arc<N>,
    own: &ConnectOptions,
    nexus: &NexusName,
    end: impl Into<End>,
    mut assigned: impl FnMut(&RunnerConfig),
) -> Result<(), RunRemoteError> {
    let end = end.into();
    let (mut asked_before, ends) = (false, Memory::default());
    loop {
        let asking = tokio::select! {
            biased;
            () = end.ordered() => return Ok(()),
            asking = RunnerConfig::remote(own, nexus) => asking,
        };
        let config = match asking {
            Ok(config) => config,
            Err(RemoteError::Connect(error)) if asked_before => {
                warn!(error = %Chain(&error), "NATS is not there, trying again");
                tokio::select! {
                    () = end.ordered() => return Ok(()),
                    () = tokio::time::sleep(PAUSE.1) => continue,
                }
            }
            Err(error) => return Err(RunRemoteError::Find(error)),
        };
        asked_before = true;
        assigned(&config);
        let node = config.node.clone();
        let stay = stay(&nexlet, config, &end, &ends, Some(ARRIVAL_LIMIT)).await;
        match stay.map_err(RunRemoteError::Run)? {
            Stay::Ended => return Ok(()),
            Stay::NodeGone => warn!(%node, %nexus, "node is gone, asking the nexus again"),
        }
    }
}

impl RunnerConfig {
    /// Asks the nodes of a nexus to take a remote nexlet, and returns what the one that does has
    /// assigned: each call a new id. `own` is a connection that may ask; its servers and TLS settings
    /// are used from then on, with the credentials that the node hands out.
    ///
    /// While nobody answers, it asks again and again, with a warning in the log. Cancel safe.
    ///
    /// # Errors
    /// [`RemoteError`] where asking again would not help.
    pub async fn remote(own: &ConnectOptions, nexus: &NexusName) -> Result<Self, RemoteError> {
        let inbox_prefix = own.inbox_prefix.clone();
        let options = ConnectOptions {
            reconnect: Reconnect::Forever,
            // The answer holds credentials: workloads are not to hear it.
            inbox_prefix: inbox_prefix.or_else(|| Some(PRIVATE_INBOX.to_owned())),
            ..own.clone()
        };
        let connection = nex_nats::connect(&options).await;
        let connection = connection.map_err(RemoteError::Connect)?;
        let mut pause = PAUSE.0;
        loop {
            match ask(&connection, nexus).await? {
                Asked::Assigned(response) => return Ok(assigned(own, *response)),
                Asked::Nobody(reason) if pause < PAUSE.1 => {
                    debug!(%nexus, %reason, "no node takes us, asking again");
                }
                Asked::Nobody(reason) => {
                    warn!(%nexus, %reason, "no node takes remote nexlets, asking again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}

enum Asked {
    Assigned(Box<RegisterRemoteResponse>),
    Nobody(String),
}

async fn ask(connection: &Connection, nexus: &NexusName) -> Result<Asked, RemoteError> {
    let subject = Subject::RegisterRemote(nexus.clone()).to_string();
    let body = serde_json::to_vec(&RegisterRemoteRequest {}).expect("an empty object");
    let request = async_nats::Request::new()
        .payload(body.into())
        .timeout(Some(ANSWER_TIMEOUT));
    let reply = match connection.client().send_request(subject, request).await {
        Ok(reply) => reply,
        Err(error)
            if error.kind() == RequestErrorKind::TimedOut
                && connection.permission_violations() > 0 =>
        {
            return Err(RemoteError::NotAllowed(nexus.clone()));
        }
        Err(error) => return Ok(Asked::Nobody(Chain(&error).to_string())),
    };
    match read_error(&reply) {
        // A node that stops; another one may be there, or come.
        Some((ErrorCode::Busy, text)) => Ok(Asked::Nobody(text)),
        Some((code, text)) => Err(RemoteError::Refused {
            nexus: nexus.clone(),
            code,
            text,
        }),
        None => serde_json::from_slice(&reply.payload)
            .map(|response| Asked::Assigned(Box::new(response)))
            .map_err(|source| RemoteError::Unreadable {
                nexus: nexus.clone(),
                source,
            }),
    }
}

fn assigned(own: &ConnectOptions, response: RegisterRemoteResponse) -> RunnerConfig {
    let RegisterRemoteResponse {
        assigned_agent_id: id,
        registration_creds: mut data,
        respond_to: node,
    } = response;
    let route = Route::of(own);
    route.replace_in(&mut data);
    let name = format!("nexlet {id} (registration)");
    RunnerConfig {
        node,
        id,
        registration: ConnectOptions::from_data(&data, &name),
        route: Some(route),
    }
}
