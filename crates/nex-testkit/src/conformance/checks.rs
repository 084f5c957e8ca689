//! The checks. Each has a nexlet that is registered and beats `running`.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{
    LIMIT, Stage,
    node::{NEXLET, NODE, agent, heartbeat, lives, register, start},
    reply::{body, error, expect_error, expect_success, header, list, text, word},
};
use crate::{RawMessage, RawNats};

type Checked = anyhow::Result<()>;

/// Lifecycles and states that decoders of Go know; they take no others.
const LIFECYCLES: [&str; 3] = ["service", "job", "function"];
const STATES: [&str; 6] = [
    "starting", "running", "warm", "stopping", "stopped", "error",
];

/// The endpoints by name, with a subject for each that does no harm.
fn endpoints() -> [(&'static str, String); 7] {
    [
        ("StartWorkload", start("none")),
        ("StopWorkload", agent("STOPWORKLOAD.none")),
        ("GetWorkload", agent("GETWORKLOAD.none")),
        ("QueryWorkloads", agent("QUERYWORKLOADS")),
        ("PingAgent", agent(&format!("{NEXLET}.PING"))),
        ("PingAllAgents", agent("PING")),
        ("SetLameduck", agent("SETLAMEDUCK")),
    ]
}

/// What an endpoint listens to: the subject of a workload's request with a wildcard.
fn pattern(subject: &str) -> String {
    let found = subject.strip_suffix(".none");
    found.map_or_else(|| subject.to_owned(), |before| format!("{before}.*"))
}

pub(super) async fn registers(stage: &mut Stage<'_>) -> Checked {
    let body = stage.node.registered(1).await?;
    let name = word(&body, "name")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    ensure!(name.bytes().all(plain), "`{name}` names no micro service");
    ensure!(
        is_semver(word(&body, "version")?),
        "the version is not SemVer: {body}"
    );
    let register_type = word(&body, "register_type")?;
    ensure!(
        register_type == stage.candidate.workload_type,
        "it registered for `{register_type}`"
    );
    text(&body, "description")?;
    text(&body, "public_xkey")?;
    ensure!(
        body["max_workloads"]
            .as_f64()
            .is_some_and(|most| most >= 0.0),
        "`max_workloads` is no number: {body}"
    );
    let schema: Value = serde_json::from_str(word(&body, "start_request_schema")?)
        .context("`start_request_schema` is no JSON")?;
    ensure!(
        schema.is_object() || schema.is_boolean(),
        "`start_request_schema` is no schema: {schema}"
    );
    for lifecycle in list(body["supported_lifecycles"].clone())? {
        let known = lifecycle
            .as_str()
            .is_some_and(|it| LIFECYCLES.contains(&it));
        ensure!(known, "unknown lifecycle {lifecycle}");
    }
    let registrations = |it: &RawMessage| it.subject == register();
    let all = stage.node.journal.count(registrations);
    ensure!(all == 1, "it registered {all} times");
    Ok(())
}

/// Three numbers, and perhaps more behind a hyphen or a plus.
fn is_semver(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number = |it: &&str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit());
    numbers.len() == 3 && numbers.iter().all(is_number)
}

pub(super) async fn is_a_service(stage: &mut Stage<'_>) -> Checked {
    let name = word(&stage.node.registered(1).await?, "name")?.to_owned();
    let reply = stage.node.ask(&format!("$SRV.INFO.{name}"), "").await?;
    let info = expect_success(&reply)?;
    ensure!(
        info["type"] == "io.nats.micro.v1.info_response" && info["name"] == name.as_str(),
        "no information about a micro service: {info}"
    );
    let told = list(info["endpoints"].clone())?;
    for (endpoint, subject) in endpoints() {
        let found = told.iter().find(|it| it["name"] == endpoint);
        let found = found.with_context(|| format!("no endpoint `{endpoint}` in {info}"))?;
        ensure!(
            found["subject"] == pattern(&subject) && found["queue_group"] == NEXLET,
            "endpoint `{endpoint}` is {found}"
        );
    }
    Ok(())
}

pub(super) async fn beats(stage: &mut Stage<'_>) -> Checked {
    let registration = stage.node.registered(1).await?;
    let (first, beat) = stage.node.heartbeat("running").await?;
    text(&beat, "data")?;
    is_summary(&beat["summary"], &registration)?;
    ensure!(
        beat["summary"]["workload_count"] == 0,
        "it has workloads before the first start: {beat}"
    );
    let earlier = stage.node.journal.all(|it| it.subject == heartbeat());
    let earlier = earlier.first().context("no heartbeat")?;
    ensure!(
        body(earlier)?["summary"]["state"] == "running",
        "its first heartbeat does not say `running`, so it cannot be used"
    );
    // Two more, before a Go node would take it for ill.
    let (second, _) = stage.node.heartbeat_from(first + 1, |_| true).await?;
    stage.node.heartbeat_from(second + 1, |_| true).await?;
    Ok(())
}

fn is_summary(summary: &Value, registration: &Value) -> Checked {
    for (field, told) in [
        ("name", "name"),
        ("type", "register_type"),
        ("version", "version"),
    ] {
        ensure!(
            word(summary, field)? == registration[told],
            "`{field}` is another one than at the registration: {summary}"
        );
    }
    text(summary, "state")?;
    ensure!(
        word(summary, "start_time")?.contains('T'),
        "`start_time` is no time: {summary}"
    );
    let lifecycles = text(summary, "supported_lifecycles")?;
    ensure!(
        lifecycles
            .split(',')
            .all(|it| it.is_empty() || LIFECYCLES.contains(&it.trim())),
        "`supported_lifecycles` is no list with commas: {summary}"
    );
    ensure!(
        summary["workload_count"].is_u64(),
        "`workload_count` is no number: {summary}"
    );
    Ok(())
}

/// A second member of the group gets some of the requests. It would get all of them beside a nexlet
/// that is in another group or in none.
pub(super) async fn shares(stage: &mut Stage<'_>) -> Checked {
    const EACH: usize = 48;
    let place = stage.node.place();
    let mut member = RawNats::connect(place.url()).await?;
    for (number, (_, subject)) in endpoints().into_iter().enumerate() {
        let subscribe = format!("SUB {} {NEXLET} group{number}\r\n", pattern(&subject));
        member.send(subscribe.as_bytes()).await?;
    }
    member.subscribe("conformance.last").await?;

    for (_, subject) in endpoints() {
        for _ in 0..EACH {
            stage.node.say(&subject, "{").await?;
        }
    }
    stage.node.say("conformance.last", "").await?;

    let mut got: Vec<String> = Vec::new();
    loop {
        let message = tokio::time::timeout(LIMIT, member.next()).await;
        let message = message.context("our own messages do not come back")??;
        if message.subject == "conformance.last" {
            break;
        }
        got.push(message.subject);
    }
    for (endpoint, subject) in endpoints() {
        let ours = got.iter().filter(|it| **it == subject).count();
        ensure!(
            ours < EACH,
            "`{endpoint}` is not in the queue group `{NEXLET}`, or not there at all"
        );
    }
    Ok(())
}

pub(super) async fn pings(stage: &mut Stage<'_>) -> Checked {
    let registration = stage.node.registered(1).await?;
    for subject in [agent(&format!("{NEXLET}.PING")), agent("PING")] {
        // The body does not matter.
        for asked in ["", "null", "{"] {
            let reply = stage.node.ask(&subject, asked).await?;
            is_summary(&expect_success(&reply)?, &registration)?;
            ensure!(
                header(&reply, "agentId").as_deref() == Some(NEXLET),
                "no header `agentId: {NEXLET}` in the answer on `{subject}`"
            );
        }
    }
    Ok(())
}

pub(super) async fn starts(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn lists(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn gets(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn refuses(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn stops_no_others(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn stops(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn takes_up(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn drains(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn survives_garbage(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn works_for_go(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn reconnects(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn registers_again(stage: &mut Stage<'_>) -> Checked {
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

pub(super) async fn ends_in_order(stage: &mut Stage<'_>) -> Checked {
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
        "it beats `running` after `stopping` on node {NODE}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for good in ["0.4.1", "1.0.0-rc.1", "1.2.3+build"] {
            assert!(is_semver(good), "{good}");
        }
        for bad in ["", "1", "1.0", "v1.0.0", "1.0.x", "1..0", "1.0.0.0"] {
            assert!(!is_semver(bad), "{bad}");
        }
    }

    #[test]
    fn endpoints_listen_to_what_they_are_sent() {
        let [(_, start), (_, stop), ..] = endpoints();
        assert!(pattern(&start).ends_with(".STARTWORKLOAD.*"));
        assert!(pattern(&stop).ends_with(".agent.STOPWORKLOAD.*"));
        assert_eq!(pattern("a.PING"), "a.PING");
    }
}
