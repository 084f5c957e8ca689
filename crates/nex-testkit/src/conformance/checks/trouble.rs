//! What goes wrong: garbage, narrow rights, a server or a node that goes away; and the end.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{Checked, endpoints};
use crate::conformance::{
    Stage,
    node::{NEXLET, agent, heartbeat, register},
    reply::{body, error, expect_success},
};

pub(in super::super) async fn survives_garbage(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    let bodies = [
        "",
        "{",
        "[]",
        "\0\u{1}\r\n\r\n",
        r#"{"namespace":1,"filter":{},"delay":[],"request":"","tag":0}"#,
        &"[".repeat(100_000),
    ];
    for (_, subject) in endpoints() {
        // Who does not know the id says nothing, whatever the body is.
        let silent = subject.contains("GETWORKLOAD");
        for garbage in bodies {
            // Nobody waits for this one.
            node.say(&subject, garbage).await?;
            if silent {
                node.ask_in_vain(&subject, garbage).await?;
                continue;
            }
            let reply = node.ask(&subject, garbage).await?;
            let is_ping = subject.ends_with("PING");
            ensure!(
                is_ping || error(&reply).is_some(),
                "`{subject}` takes {:?}",
                &garbage[..garbage.len().min(20)]
            );
        }
    }
    node.start_workload("w1", "web")
        .await
        .context("after garbage")?;
    node.lists("w1").await
}

pub(in super::super) async fn works_for_go(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    node.start_workload("w1", "web").await?;
    node.lists("w1").await?;
    // It may not hear this, or may: it runs on either way.
    node.beat("").await?;
    node.lists("w1").await?;
    let order = json!({ "namespace": "default", "wait": "15s" }).to_string();
    let stopped = expect_success(&node.ask(&agent("STOPWORKLOAD.w1"), &order).await?)?;
    ensure!(
        stopped["stopped"] == true,
        "the answer to a stop is {stopped}"
    );
    node.ask(&agent("PING"), "").await?;
    Ok(())
}

pub(in super::super) async fn reconnects(stage: &mut Stage<'_>) -> Checked {
    stage.node.start_workload("w1", "web").await?;
    stage.node.event("WORKLOADSTARTED", "w1").await?;
    let before = stage.node.journal.len();

    stage.node.restart_server().await?;

    let node = &stage.node;
    node.heartbeat_from(before, |summary| summary["state"] == "running")
        .await
        .context("after the server came back")?;
    node.lists("w1").await?;
    let registrations = node.journal.count(|it| it.subject == register());
    let started = node.events("WORKLOADSTARTED", "w1");
    ensure!(
        (registrations, started) == (1, 1),
        "{registrations} registrations, {started} starts: the node had forgotten nothing"
    );
    Ok(())
}

pub(in super::super) async fn registers_again(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    node.start_workload("w1", "web").await?;
    node.hand_over("w1");
    node.hand_over("lost");
    let known = format!("other [x], {NEXLET} [{}]", stage.candidate.workload_type);
    node.beat(&known).await?;
    node.ask(&agent("PING"), "").await?;
    let early = node.journal.count(|it| it.subject == register());
    ensure!(early == 1, "it registers with a node that knows it");

    node.beat("other [x]").await?;

    let again = node.registered(2).await?;
    ensure!(
        again == node.registered(1).await?,
        "it registers as another one: {again}"
    );
    node.event("WORKLOADSTARTED", "lost").await?;
    let both = |summary: &Value| summary["workload_count"] == 2;
    node.heartbeat_from(0, both).await?;
    node.lists("w1").await?;
    node.sync().await?;
    let (started, stopped) = (
        node.events("WORKLOADSTARTED", "w1"),
        node.events("WORKLOADSTOPPED", "w1"),
    );
    ensure!(
        (started, stopped) == (1, 0),
        "what ran was started {started} times, and stopped {stopped} times"
    );
    Ok(())
}

pub(in super::super) async fn ends_in_order(stage: &mut Stage<'_>) -> Checked {
    stage.node.start_workload("w1", "web").await?;
    stage.nexlet.end()?;
    let node = &stage.node;
    let (stopped, _) = node.event("WORKLOADSTOPPED", "w1").await?;
    let (said, _) = node.heartbeat("stopping").await?;
    ensure!(
        said < stopped,
        "the end of a workload is told before `stopping`"
    );
    let beats = node.journal.all(|it| it.subject == heartbeat());
    let last = beats.last().context("no heartbeat")?;
    ensure!(
        body(last)?["summary"]["state"] != "running",
        "it beats `running` after `stopping`"
    );
    Ok(())
}
