//! A nexlet as a child process, its output in the node's log.

use std::{io, time::Duration};

use data_encoding::BASE64;
use nex_process::{Command, LifelineChild, Output, spawn_lifeline};
use nex_protocol::{NatsConnectionData, NexletId, NodeId, registration::env};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tracing::{info, warn};

use super::supervise::{End, StopSignal, stop_asked};
use crate::config::LocalNexlet;

/// The longest line of output that is logged as one, in bytes; a longer one is cut into several.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// How long the output of a nexlet is still read after its end: a child of it may hold the pipe.
const LAST_OUTPUT_LIMIT: Duration = Duration::from_millis(200);

/// How long a nexlet may take to die of a kill; only one that hangs in the kernel takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// What a local nexlet reads: all eight variables, empty where there is nothing to say.
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
    let own = |(name, value): (&str, String)| (name.to_owned(), value);
    variables.into_iter().map(own).collect()
}

/// One life of a local nexlet.
pub(super) async fn live(
    plan: &LocalNexlet,
    environment: Vec<(String, String)>,
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
        tokio::join!(relay(stdout, "stdout"), relay(stderr, "stderr"));
    };
    tokio::pin!(output);
    let mut output_open = true;
    let end = {
        let life = until_end(&mut child, stop_rx);
        tokio::pin!(life);
        loop {
            tokio::select! {
                end = &mut life => break end,
                () = &mut output, if output_open => output_open = false,
            }
        }
    };
    if output_open {
        tokio::time::timeout(LAST_OUTPUT_LIMIT, output).await.ok();
    }
    end
}

async fn until_end(child: &mut LifelineChild, stop_rx: &mut StopSignal) -> End {
    tokio::select! {
        exit = child.wait() => match exit {
            Ok(exit) => End::Failed(exit.to_string()),
            Err(error) => End::Failed(format!("failed to wait for it: {error}")),
        },

        grace = stop_asked(stop_rx) => {
            stop(child, grace).await;
            End::Stopped
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
    child.kill();
    if tokio::time::timeout(KILL_LIMIT, child.wait())
        .await
        .is_err()
    {
        warn!("nexlet process does not die");
    }
}

/// Logs each line of a stream until it ends.
async fn relay(stream: Option<impl AsyncRead + Unpin>, name: &'static str) {
    let Some(stream) = stream else { return };
    let copied = lines(stream, |line| info!(stream = name, "{line}")).await;
    if let Err(error) = copied {
        warn!(stream = name, %error, "failed to read the output of a nexlet");
    }
}

/// Hands on each line, without its end; a very long one in pieces.
async fn lines(mut stream: impl AsyncRead + Unpin, mut line: impl FnMut(&str)) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(4096);
    let mut hand_on = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        line(text.trim_end_matches('\r'));
    };
    loop {
        let open = stream.read_buf(&mut buffer).await? > 0;
        let mut start = 0;
        while let Some(length) = buffer[start..].iter().position(|byte| *byte == b'\n') {
            hand_on(&buffer[start..start + length]);
            start += length + 1;
        }
        buffer.drain(..start);
        if !buffer.is_empty() && (!open || buffer.len() >= MAX_LINE_BYTES) {
            hand_on(&buffer);
            buffer.clear();
        }
        if !open {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Vec<String> {
        let mut read = Vec::new();
        lines(bytes, |line| read.push(line.to_owned()))
            .await
            .unwrap();
        read
    }

    #[tokio::test]
    async fn output_becomes_lines() {
        assert_eq!(read(b"one\ntwo\r\n\nend").await, ["one", "two", "", "end"]);
        assert!(read(b"").await.is_empty());
    }

    #[tokio::test]
    async fn a_line_without_end_takes_bounded_memory() {
        let read = read(&[b'x'; 3 * MAX_LINE_BYTES]).await;

        assert!(read.len() >= 2, "{}", read.len());
        assert!(read.iter().all(|line| line.len() < 2 * MAX_LINE_BYTES));
        let total: usize = read.iter().map(String::len).sum();
        assert_eq!(total, 3 * MAX_LINE_BYTES);
    }

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
}
