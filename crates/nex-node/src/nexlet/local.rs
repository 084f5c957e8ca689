//! A nexlet as a child process, its output in the node's log. Those of any other make are in
//! [`foreign`].

pub(super) mod foreign;
mod output;

use std::time::Duration;

use data_encoding::BASE64;
use nex_process::{Command, LifelineChild, Output, spawn_lifeline};
use nex_protocol::{NatsConnectionData, NexletId, NodeId, registration::env};
use tracing::{info, warn};

use super::supervise::{End, StopSignal, stop_asked};
use crate::config::LocalNexlet;
use output::relay;

/// How long a nexlet may take to die of a kill; only one that hangs in the kernel takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// What a local nexlet reads: all eight variables of Go, empty where there is nothing to say, and our
/// own for TLS where there is something.
pub(super) fn environment(
    node: &NodeId,
    id: &NexletId,
    registration: &NatsConnectionData,
) -> Vec<(String, String)> {
    let jwt = BASE64.encode(registration.nats_user_jwt.as_bytes());
    let variables = [
        (env::SERVERS, registration.nats_servers.join(",")),
        (env::SEED, registration.nats_user_seed.clone()),
        (env::B64_JWT, jwt),
        (env::USER, registration.nats_user_name.clone()),
        (env::PASSWORD, registration.nats_user_password.clone()),
        (env::NKEY, registration.nats_user_nkey.clone()),
        (env::NODE_ID, node.to_string()),
        (env::ASSIGNED_ID, id.to_string()),
    ];
    let first = if registration.tls_first { "true" } else { "" };
    let tls = [
        (env::TLS_CA, registration.tls_ca.clone()),
        (env::TLS_CERT, registration.tls_cert.clone()),
        (env::TLS_KEY, registration.tls_key.clone()),
        (env::TLS_FIRST, first.to_owned()),
    ];
    let tls = tls.into_iter().filter(|(_, value)| !value.is_empty());
    let own = |(name, value): (&str, String)| (name.to_owned(), value);
    variables.into_iter().chain(tls).map(own).collect()
}

/// One life of a local nexlet.
pub(super) async fn live(
    plan: &LocalNexlet,
    environment: Vec<(String, String)>,
    hung: impl Future<Output = String>,
    stop_rx: &mut StopSignal,
) -> End {
    let mut command = Command::new(&plan.program);
    command.args = plan.args.iter().map(Into::into).collect();
    // The node's variables come last: they win.
    command.env = plan.env.iter().cloned().chain(environment).collect();
    command.cwd.clone_from(&plan.cwd);
    command.stdout = Output::Pipe;
    command.stderr = Output::Pipe;
    let mut child = match spawn_lifeline(command).await {
        Ok(child) => child,
        Err(error) => {
            let program = plan.program.display();
            return End::Failed(format!("failed to start `{program}`: {error}"));
        }
    };
    info!(pid = child.pid(), "nexlet process started");

    let (stdout, stderr) = (child.take_stdout(), child.take_stderr());
    let output = async {
        tokio::join!(
            relay(stdout, |line| info!(stream = "stdout", "{line}")),
            relay(stderr, |line| info!(stream = "stderr", "{line}")),
        );
    };
    output::until(until_end(&mut child, hung, stop_rx), output).await
}

async fn until_end(
    child: &mut LifelineChild,
    hung: impl Future<Output = String>,
    stop_rx: &mut StopSignal,
) -> End {
    tokio::select! {
        exit = child.wait() => match exit {
            Ok(exit) => End::Failed(exit.to_string()),
            Err(error) => End::Failed(format!("failed to wait for it: {error}")),
        },

        grace = stop_asked(stop_rx) => {
            stop(child, grace).await;
            End::Stopped
        }

        reason = hung => {
            kill(child).await;
            End::Failed(format!("killed, for it is hung: {reason}"))
        }
    }
}

/// Asks it to end, which ends its workloads, and kills it when it does not.
async fn stop(child: &mut LifelineChild, grace: Duration) {
    child.terminate();
    if tokio::time::timeout(grace, child.wait()).await.is_ok() {
        return;
    }
    warn!(?grace, "nexlet outlived its grace period, killing it");
    kill(child).await;
}

async fn kill(child: &mut LifelineChild) {
    child.kill();
    if tokio::time::timeout(KILL_LIMIT, child.wait())
        .await
        .is_err()
    {
        warn!("nexlet process does not die");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_gets_all_eight_variables() {
        let node = NodeId::new(format!("N{}", "A".repeat(55))).unwrap();
        let data = NatsConnectionData {
            nats_servers: vec!["nats://a:1".into(), "nats://b:2".into()],
            nats_user_jwt: "jwt".into(),
            ..NatsConnectionData::default()
        };

        let variables = environment(&node, &NexletId::new("x").unwrap(), &data);

        let value = |name: &str| {
            let found = variables.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(variables.len(), 8);
        assert_eq!(value(env::SERVERS), Some("nats://a:1,nats://b:2"));
        assert_eq!(value(env::B64_JWT), Some("and0"));
        assert_eq!(value(env::ASSIGNED_ID), Some("x"));
        assert_eq!(value(env::SEED), Some(""));
    }

    #[test]
    fn a_child_learns_of_a_private_ca() {
        let node = NodeId::new(format!("N{}", "A".repeat(55))).unwrap();
        let data = NatsConnectionData {
            tls_ca: "/ca.pem".into(),
            tls_first: true,
            ..NatsConnectionData::default()
        };

        let variables = environment(&node, &NexletId::new("x").unwrap(), &data);

        let tls = &variables[8..];
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            tls,
            [own(env::TLS_CA, "/ca.pem"), own(env::TLS_FIRST, "true")]
        );
    }
}
