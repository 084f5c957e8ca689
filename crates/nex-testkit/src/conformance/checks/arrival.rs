//! Until a node may use a nexlet: registration, endpoints, heartbeats.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Checked, LIFECYCLES, endpoints, pattern};
use crate::{
    RawMessage, RawNats,
    conformance::{
        LIMIT, Stage,
        node::{NEXLET, agent, heartbeat, register},
        reply::{body, expect_success, header, list, text, word},
    },
};

pub(in super::super) async fn registers(stage: &mut Stage<'_>) -> Checked {
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

pub(in super::super) async fn is_a_service(stage: &mut Stage<'_>) -> Checked {
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

pub(in super::super) async fn beats(stage: &mut Stage<'_>) -> Checked {
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
pub(in super::super) async fn shares(stage: &mut Stage<'_>) -> Checked {
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

pub(in super::super) async fn pings(stage: &mut Stage<'_>) -> Checked {
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
}
