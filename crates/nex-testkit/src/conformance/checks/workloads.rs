//! What a node asks: starts, stops, lists, and the order to drain.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::Checked;
use crate::{
    RawMessage,
    conformance::{
        Stage,
        node::{agent, lives, start},
        reply::{body, expect_error, expect_success, text, word},
    },
};

/// States of workloads that decoders of Go know; they take no others.
const STATES: [&str; 6] = [
    "starting", "running", "warm", "stopping", "stopped", "error",
];

pub(in super::super) async fn starts(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    let named = node.start_workload("w1", "web").await?;
    ensure!(
        named["id"] == "w1" && named["name"] == "web",
        "the answer to a start is {named}"
    );
    let nameless = node.start_workload("w2", "").await?;
    ensure!(
        nameless["id"] == "w2",
        "the answer to a start is {nameless}"
    );
    word(&nameless, "name").context("a workload without a name gets one")?;
    for id in ["w1", "w2"] {
        let (_, event) = node.event("WORKLOADSTARTED", id).await?;
        ensure!(
            event["namespace"] == "default"
                && event["workload_type"] == stage.candidate.workload_type.as_str(),
            "the event is {event}"
        );
        node.lists(id).await?;
    }
    // So that the node sees how busy it is.
    let counts = |summary: &Value| summary["workload_count"] == 2;
    node.heartbeat_from(0, counts).await?;
    Ok(())
}

pub(in super::super) async fn lists(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    ensure!(
        node.query("default", Value::Null).await?.is_empty(),
        "it lists workloads before the first start"
    );
    node.start_workload("w1", "web").await?;
    node.start_workload("w2", "db").await?;

    let ids = |listed: &[Value]| {
        let ids = listed.iter().filter_map(|it| it["id"].as_str());
        let mut ids: Vec<String> = ids.map(str::to_owned).collect();
        ids.sort();
        ids
    };
    for (namespace, filter, wanted) in [
        ("default", Value::Null, vec!["w1", "w2"]),
        ("default", json!([]), vec!["w1", "w2"]),
        ("system", Value::Null, vec!["w1", "w2"]),
        ("other", Value::Null, vec![]),
        ("other", json!(["w1"]), vec![]),
        ("default", json!(["w2"]), vec!["w2"]),
        ("default", json!(["web"]), vec!["w1"]),
        ("system", json!(["web", "w2"]), vec!["w1", "w2"]),
        ("default", json!(["nothing"]), vec![]),
    ] {
        let listed = node.query(namespace, filter.clone()).await?;
        ensure!(
            ids(&listed) == wanted,
            "namespace `{namespace}` with filter {filter} lists {listed:?}"
        );
        for workload in &listed {
            is_listed_well(workload, &stage.candidate.workload_type)?;
        }
    }
    Ok(())
}

fn is_listed_well(workload: &Value, workload_type: &str) -> Checked {
    for field in ["id", "name", "workload_lifecycle", "workload_state"] {
        word(workload, field)?;
    }
    for field in ["runtime", "start_time"] {
        text(workload, field)?;
    }
    ensure!(
        STATES.contains(&text(workload, "workload_state")?),
        "unknown state: {workload}"
    );
    ensure!(
        workload["namespace"] == "default" && workload["workload_type"] == workload_type,
        "wrong namespace or type: {workload}"
    );
    let tags = workload.get("tags").context("no `tags`")?;
    ensure!(
        tags.is_object() || tags.is_null(),
        "`tags` are no object: {workload}"
    );
    let metadata = &workload["metadata"];
    let texts = metadata
        .as_object()
        .is_some_and(|it| it.values().all(Value::is_string));
    ensure!(
        metadata.is_null() || texts,
        "`metadata` has other things than texts: {workload}"
    );
    Ok(())
}

pub(in super::super) async fn gets(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    node.ask_in_vain(&agent("GETWORKLOAD.unknown"), "").await?;
    let name = word(&node.start_workload("w1", "").await?, "name")?.to_owned();

    let reply = node.ask(&agent("GETWORKLOAD.w1"), "garbage").await?;
    let request = expect_success(&reply)?;
    for (field, wanted) in [
        ("name", name.as_str()),
        ("namespace", "default"),
        ("workload_type", &stage.candidate.workload_type),
        ("workload_lifecycle", &stage.candidate.lifecycle),
    ] {
        ensure!(
            text(&request, field)? == wanted,
            "`{field}` of the start request is not `{wanted}`: {request}"
        );
    }
    let run_request: Value = serde_json::from_str(text(&request, "run_request")?)?;
    ensure!(
        run_request == stage.candidate.run_request,
        "`run_request` has changed: {run_request}"
    );
    ensure!(
        request["tags"]["suite"] == "conformance",
        "the tags are lost: {request}"
    );
    // The owner's answer must win: nobody else may give one, not even an error.
    node.ask_in_vain(&agent("GETWORKLOAD.unknown"), "{}")
        .await?;
    node.ask(&agent("GETWORKLOAD.w1"), "").await?;
    Ok(())
}

pub(in super::super) async fn refuses(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    let unreadable = node.ask(&start("w1"), "{").await?;
    is_refused(&unreadable, "w1")?;
    let nonsense = node.order("web", "no JSON").to_string();
    is_refused(&node.ask(&start("w1"), &nonsense).await?, "w1")
        .context("a `run_request` that is no JSON")?;
    ensure!(
        !node.query("default", Value::Null).await?.iter().any(lives),
        "a refused workload is listed as if it ran"
    );

    node.start_workload("w1", "web")
        .await
        .context("after refusals")?;
    let again = node
        .order("web", &stage.candidate.run_request.to_string())
        .to_string();
    is_refused(&node.ask(&start("w1"), &again).await?, "w1")
        .context("a second start of the same id")?;
    node.lists("w1").await?;
    node.sync().await?;
    let started = node.events("WORKLOADSTARTED", "w1");
    ensure!(started == 1, "{started} starts are told, of one workload");
    Ok(())
}

/// An error, with the fields that Go decoders require in any answer to a start.
fn is_refused(reply: &RawMessage, id: &str) -> Checked {
    expect_error(reply)?;
    let body = body(reply)?;
    ensure!(body["id"] == id, "the body does not name `{id}`: {body}");
    text(&body, "name")?;
    Ok(())
}

pub(in super::super) async fn stops_no_others(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    node.start_workload("w1", "web").await?;
    for (id, namespace) in [
        ("unknown", "default"),
        ("unknown", "system"),
        ("w1", "other"),
    ] {
        let order = json!({ "namespace": namespace }).to_string();
        let reply = node
            .ask(&agent(&format!("STOPWORKLOAD.{id}")), &order)
            .await?;
        let (code, _) = expect_error(&reply)?;
        ensure!(code == "100", "`{id}` of `{namespace}`: the code is {code}");
        not_stopped(&reply, stage)?;
    }
    let reply = node.ask(&agent("STOPWORKLOAD.w1"), "{").await?;
    expect_error(&reply).context("an order that cannot be read")?;
    not_stopped(&reply, stage)?;
    node.lists("w1").await
}

fn not_stopped(reply: &RawMessage, stage: &Stage<'_>) -> Checked {
    let body = body(reply)?;
    text(&body, "id")?;
    text(&body, "message")?;
    ensure!(body["stopped"] == false, "it says `stopped`: {body}");
    ensure!(
        body["workload_type"] == stage.candidate.workload_type.as_str(),
        "`workload_type` is not its own: {body}"
    );
    Ok(())
}

pub(in super::super) async fn stops(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    for id in ["w1", "w2", "w3"] {
        node.start_workload(id, id).await?;
    }
    // As Go clients stop, as ours do, and as who may stop everything.
    for (id, order) in [
        ("w1", json!({ "namespace": "default" })),
        ("w2", json!({ "namespace": "default", "wait": "15s" })),
        ("w3", json!({ "namespace": "system" })),
    ] {
        let subject = agent(&format!("STOPWORKLOAD.{id}"));
        let stopped = expect_success(&node.ask(&subject, &order.to_string()).await?)?;
        ensure!(
            stopped["stopped"] == true && stopped["id"] == id,
            "the answer to a stop is {stopped}"
        );
        text(&stopped, "message")?;
        ensure!(
            stopped["workload_type"] == stage.candidate.workload_type.as_str(),
            "`workload_type` is not its own: {stopped}"
        );
        let waited = order.get("wait").is_some();
        if waited {
            // Answered at death, so nothing is left.
            let listed = node.query("default", json!([id])).await?;
            ensure!(!listed.iter().any(lives), "`{id}` still runs: {listed:?}");
        }
        let (_, event) = node.event("WORKLOADSTOPPED", id).await?;
        ensure!(
            event["error"].is_null() && event["namespace"] == "default",
            "the event is {event}"
        );
    }
    let none = |summary: &Value| summary["workload_count"] == 0;
    let from = node.event("WORKLOADSTOPPED", "w3").await?.0;
    node.heartbeat_from(from, none).await?;
    node.sync().await?;
    for id in ["w1", "w2", "w3"] {
        let stopped = node.events("WORKLOADSTOPPED", id);
        ensure!(stopped == 1, "{stopped} ends are told of `{id}`");
    }
    Ok(())
}

pub(in super::super) async fn takes_up(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    node.event("WORKLOADSTARTED", "old").await?;
    let counts = |summary: &Value| summary["workload_count"] == 1;
    node.heartbeat_from(0, counts).await?;
    node.lists("old").await?;

    let again = node.order("old", &stage.candidate.run_request.to_string());
    is_refused(&node.ask(&start("old"), &again.to_string()).await?, "old")
        .context("a start of what was taken up")?;
    node.sync().await?;
    let (started, stopped) = (
        node.events("WORKLOADSTARTED", "old"),
        node.events("WORKLOADSTOPPED", "old"),
    );
    ensure!(
        (started, stopped) == (1, 0),
        "it was started {started} times, and stopped {stopped} times"
    );
    Ok(())
}

pub(in super::super) async fn drains(stage: &mut Stage<'_>) -> Checked {
    let node = &stage.node;
    node.start_workload("w1", "web").await?;
    for wrong in ["{", r#"{"delay":"soon","tag":{}}"#] {
        let reply = node.ask(&agent("SETLAMEDUCK"), wrong).await?;
        expect_error(&reply).with_context(|| format!("the order {wrong}"))?;
        let said_yes = body(&reply).is_ok_and(|body| body["success"] == true);
        ensure!(!said_yes, "success beside an error");
    }
    node.lists("w1").await.context("after wrong orders")?;

    let order = r#"{"delay":"100ms","tag":{}}"#;
    let drained = expect_success(&node.ask(&agent("SETLAMEDUCK"), order).await?)?;
    ensure!(drained["success"] == true, "the answer is {drained}");
    text(&drained, "message")?;

    let order = node.order("late", &stage.candidate.run_request.to_string());
    is_refused(&node.ask(&start("late"), &order.to_string()).await?, "late")
        .context("a start after the order to drain")?;
    let drains = |summary: &Value| summary["state"] == "lameduck";
    node.heartbeat_from(0, drains)
        .await
        .context("no `lameduck`")?;
    node.event("WORKLOADSTOPPED", "w1").await?;
    let gone = |summary: &Value| summary["state"] != "running" && summary["workload_count"] == 0;
    node.heartbeat_from(0, gone).await?;
    ensure!(
        node.events("WORKLOADSTARTED", "late") == 0,
        "it started a workload while it drained"
    );
    Ok(())
}
