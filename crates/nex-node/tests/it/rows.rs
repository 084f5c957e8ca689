//! When a node answers what, and when it is silent: every row of the protocol's table, asked by
//! raw messages.
//!
//! A broadcast is heard by all nodes of a nexus, and one error among the answers makes a Go client
//! fail as a whole, so silence is as much a part of the protocol as an answer is.

mod bench;

use std::time::Duration;

use async_nats::HeaderMap;
use nex_credentials::{Minter, TlsFiles, WorkloadGrant};
use nex_nats::error_headers;
use nex_node::{Node, RunningNode};
use nex_protocol::{
    BidId, ErrorCode, MAX_CONTROL_REQUEST_BYTES, NexletId, WorkloadId, error::WORKLOAD_NOT_FOUND,
    workload::MAY_RUN,
};
use nex_testkit::RawNats;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::support::{
    Bus, LIMIT, auction, body, error, json as encoded, next, registration, start_request,
};
use bench::{Log, Row, Told, check};

const PTAGS: &str = "$NEX.SVC.system.control.PTAGS";
const PING: &str = "$NEX.SVC.system.control.PING";
const AUCTION: &str = "$NEX.SVC.default.control.AUCTION";
const WPING: &str = "$NEX.SVC.default.control.WPING";
const RREGISTER: &str = "$NEX.SVC.nexus.agent.RREGISTER";

/// Bodies that no request with a required key can be read from.
const UNREADABLE: [&str; 4] = ["", "{}", "garbage", "[]"];

/// Bodies of a request that names its namespace, and nothing else that matters.
const DEFAULT: &str = r#"{"namespace":"default","filter":null,"new_target_xkey":"X"}"#;
const OTHER: &str = r#"{"namespace":"other","filter":null,"new_target_xkey":"X"}"#;

const MISMATCH: &str = "namespace mismatch: default != other";

fn of_node(verb: &str, node: &RunningNode) -> String {
    format!("$NEX.SVC.system.control.{verb}.{}", node.id())
}

fn of_tenant(verb: &str, id: impl std::fmt::Display) -> String {
    format!("$NEX.SVC.default.control.{verb}.{id}")
}

fn register(node: &RunningNode, id: &NexletId) -> String {
    format!("$NEX.SVC.{}.agent.REGISTER.{id}", node.id())
}

/// A row for each body that cannot be read.
fn unreadable(endpoint: &str, subject: &str, text: &str) -> Vec<Row> {
    let rows = UNREADABLE.iter().map(|body| {
        let name = format!("{endpoint}: undecodable `{body}`");
        Row::refused(&name, subject, *body, 400, text).told(Told::More(""))
    });
    rows.collect()
}

fn mismatch(endpoint: &str, subject: &str, body: impl Into<bytes::Bytes>) -> Row {
    let name = format!("{endpoint}: another namespace");
    Row::refused(&name, subject, body, 403, MISMATCH).told(Told::Text("namespace mismatch"))
}

#[tokio::test]
async fn rows_of_questions_about_the_node() {
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    let id = node.id().to_string();
    let (info, lameduck) = (of_node("INFO", &node), of_node("LAMEDUCK", &node));
    let (by_name, ping) = (of_node("AGENTID", &node), of_node("PING", &node));
    let own = move |value: &Value| value["node_id"] == *id;
    let tags = |value: &Value| value["region"] == "lab" && value["nex.lameduck"] == "false";
    let mut rows = vec![
        Row::answered("PTAGS: no body", PTAGS, "", tags),
        Row::answered("PTAGS: garbage", PTAGS, "\0\u{1}garbage", tags),
        Row::answered("INFO: no body", &info, "", own.clone()),
        Row::answered("INFO: garbage", &info, "garbage", own.clone()),
        Row::silent(
            "LAMEDUCK: another tag",
            &lameduck,
            r#"{"delay":"1s","tag":{"region":"other"}}"#,
        ),
        Row::refused(
            "AGENTID: no name",
            &by_name,
            "",
            400,
            "agent name is required",
        ),
        Row::silent("AGENTID: an unknown name", &by_name, "stranger"),
        Row::silent("AGENTID: no text", &by_name, vec![0xff, 0xfe]),
        Row::forwarded(
            "AGENTID: a name",
            &by_name,
            "echo_nexlet",
            &[],
            nexlet.id.to_string(),
        ),
    ];
    for (endpoint, subject) in [("PING", PING), ("PING.<node>", &ping)] {
        let text = "failed to unmarshal ping request";
        rows.extend(unreadable(endpoint, subject, text));
        for (what, filter) in [
            ("another value", r#"{"region":"other"}"#),
            ("a tag that it has not", r#"{"colour":"lab"}"#),
            ("one of two that fits", r#"{"region":"lab","colour":"red"}"#),
        ] {
            let name = format!("{endpoint}: a filter for {what}");
            rows.push(Row::silent(
                &name,
                subject,
                format!(r#"{{"filter":{filter}}}"#),
            ));
        }
        for filter in [
            r#"{"filter":null}"#,
            r#"{"filter":{"region":"lab"}}"#,
            "null",
        ] {
            let name = format!("{endpoint}: `{filter}`");
            rows.push(Row::answered(&name, subject, filter, own.clone()));
        }
    }
    let text = "failed to unmarshal lameduck request";
    rows.extend(unreadable("LAMEDUCK", &lameduck, text));
    for delay in ["", "1d", "5", "soon"] {
        let name = format!("LAMEDUCK: bad delay `{delay}`");
        let request = format!(r#"{{"delay":"{delay}"}}"#);
        let text = "failed to parse lameduck delay";
        rows.push(Row::refused(&name, &lameduck, request, 400, text).told(Told::More("")));
    }

    check(&bus, node, &log, rows).await;
}

#[tokio::test]
async fn rows_of_a_lame_duck() {
    let sets = |node: &RunningNode, name: &str| {
        let subject = of_node("LAMEDUCK", node);
        Row::answered(name, &subject, r#"{"delay":"1m0s"}"#, |value| {
            let message = value["message"].as_str().unwrap_or_default();
            value["success"] == true && message.starts_with("node entering lameduck mode")
        })
    };
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;

    let node = bus.node().await;
    let rows = vec![sets(&node, "LAMEDUCK: no nexlets")];
    check(&bus, node, &log, rows).await;

    let node = bus.node().await;
    let _silent = bus.nexlet(node.id()).await;
    let rows = vec![sets(&node, "LAMEDUCK: a nexlet that is silent")];
    check(&bus, node, &log, rows).await;

    let node = bus.node().await;
    let failing = bus.nexlet(node.id()).await;
    let told = format!("$NEX.SVC.{}.agent.SETLAMEDUCK", node.id());
    failing
        .answers(&told, |_| async {
            vec![(error_headers(ErrorCode::Nexlet, "no"), "".into())]
        })
        .await;
    let rows = vec![sets(&node, "LAMEDUCK: a nexlet that fails")];
    check(&bus, node, &log, rows).await;
}

#[tokio::test]
async fn rows_of_auctions() {
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;
    let node = bus.node().await;
    bus.nexlet(node.id()).await;
    let sick = bus.nexlet_as(node.id(), registration("sick")).await;
    sick.beat("starting", 0, "degraded").await;
    let tagged = |tags: &str| auction("echo").replace("null", tags);
    let mut rows = vec![
        Row::silent("AUCTION: an unknown type", AUCTION, auction("unknown")),
        Row::silent("AUCTION: no type", AUCTION, auction("")),
        Row::silent("AUCTION: no healthy nexlet", AUCTION, auction("sick")),
        Row::silent(
            "AUCTION: a lifecycle that the nexlet does not run",
            AUCTION,
            auction("echo").replace('}', r#","lifecycle":"function"}"#),
        ),
        Row::silent("AUCTION: another tag", AUCTION, tagged(r#"{"region":"x"}"#)),
        Row::silent("AUCTION: an unknown tag", AUCTION, tagged(r#"{"a":"b"}"#)),
        Row::silent(
            "AUCTION: upper case",
            AUCTION,
            tagged(r#"{"region":"LAB"}"#),
        ),
    ];
    for subject in [AUCTION, "$NEX.SVC.system.control.AUCTION"] {
        for request in [auction("echo"), tagged(r#"{"nex.os":"linux"}"#)] {
            let name = format!("AUCTION: {subject} {request}");
            rows.push(Row::answered(&name, subject, request, |bid| {
                bid["bidder_id"].as_str().is_some_and(|id| id.len() == 22)
                    && bid["start_request_schema"].is_string()
                    && bid["supported_lifecycles"] == json!(["job", "service"])
                    && bid["xkey"] == "XKEY"
            }));
        }
    }
    rows.extend(unreadable(
        "AUCTION",
        AUCTION,
        "failed to unmarshal auction request",
    ));

    check(&bus, node, &log, rows).await;
}

#[tokio::test]
async fn rows_of_deploys() {
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;
    let node = bus.node().await;
    let echo = bus.nexlet(node.id()).await;
    echo.answers(&echo.starts(), |_| async {
        let mut headers = HeaderMap::new();
        headers.insert("Own", "kept");
        vec![(headers, r#"{"id":"w","name":"web"}"#.into())]
    })
    .await;
    let failing = bus.nexlet_as(node.id(), registration("failing")).await;
    failing
        .answers(&failing.starts(), |_| async {
            let headers = error_headers(ErrorCode::Nexlet, "no such file: /x");
            vec![(headers, r#"{"id":"w","name":""}"#.into())]
        })
        .await;
    let strange = bus.nexlet_as(node.id(), registration("strange")).await;
    strange.says(&strange.starts(), "\0garbage").await;
    bus.nexlet_as(node.id(), registration("absent")).await;
    let sick = bus.nexlet_as(node.id(), registration("sick")).await;
    sick.beat("error", 0, "degraded").await;

    let subject = of_tenant("ADEPLOY", bus.bid("echo").await.bidder_id);
    let run = r#"{"uri":"file:///x"}"#;
    let with = |key: &str, value: Value| {
        let mut request = start_request("echo", run);
        request[key] = value;
        request.to_string()
    };
    let expired = of_tenant("ADEPLOY", BidId::mint(node.id()));
    let foreign = of_tenant("ADEPLOY", "0uiY97LTUBRG6sb4yR1thf");
    let elsewhere = subject.replace(".default.", ".other.");
    let system = subject.replace(".default.", ".system.");
    let fine = with("name", json!("web"));
    let answer: &str = r#"{"id":"w","name":"web"}"#;
    let mut rows = vec![
        Row::silent("ADEPLOY: an unknown bid, garbage", &foreign, "garbage"),
        Row::silent("ADEPLOY: an unknown bid", &foreign, fine.clone()),
        Row::refused(
            "ADEPLOY to the node: a bid of another one",
            &format!("{foreign}.{}", node.id()),
            fine.clone(),
            404,
            "bid expired",
        ),
        Row::refused(
            "ADEPLOY to the node: garbage",
            &format!("{subject}.{}", node.id()),
            "garbage",
            400,
            "failed to unmarshal auction deploy workload request",
        )
        .told(Told::More("")),
        Row::forwarded(
            "ADEPLOY to the node: success",
            &format!("{subject}.{}", node.id()),
            fine.clone(),
            &[("Own", "kept")],
            answer,
        ),
        Row::refused(
            "ADEPLOY: an expired bid",
            &expired,
            "garbage",
            404,
            "bid expired",
        ),
        Row::refused(
            "ADEPLOY: another namespace",
            &elsewhere,
            fine.clone(),
            403,
            "namespace mismatch: other != default",
        )
        .told(Told::Text("namespace mismatch")),
        Row::refused(
            "ADEPLOY: an unknown type",
            &subject,
            with("workload_type", json!("unknown")),
            404,
            "workload type not found",
        ),
        Row::refused(
            "ADEPLOY: no healthy nexlet",
            &subject,
            with("workload_type", json!("sick")),
            404,
            "workload type not found",
        ),
        Row::refused(
            "ADEPLOY: a start request that is no JSON",
            &subject,
            with("run_request", json!("{")),
            400,
            "failed to unmarshal start request",
        )
        .told(Told::More("")),
        Row::refused(
            "ADEPLOY: a start request that the schema refuses",
            &subject,
            with("run_request", json!("{}")),
            400,
            "failed to validate run request",
        )
        .told(Told::More("uri")),
        Row::refused(
            "ADEPLOY: a start request that is an object",
            &subject,
            with("run_request", json!({"uri": "x"})),
            400,
            "failed to unmarshal auction deploy workload request",
        )
        .told(Told::More("")),
        Row::forwarded(
            "ADEPLOY: success",
            &subject,
            fine.clone(),
            &[("Own", "kept")],
            answer,
        ),
        Row::forwarded(
            "ADEPLOY: of `system`",
            &system,
            fine,
            &[("Own", "kept")],
            answer,
        ),
    ];
    let text = "failed to unmarshal auction deploy workload request";
    rows.extend(unreadable("ADEPLOY", &subject, text));
    for (name, workload_type, headers, payload) in [
        (
            "ADEPLOY: the nexlet's error",
            "failing",
            &[
                ("Nats-Service-Error-Code", "100"),
                ("Nats-Service-Error", "no such file: /x"),
            ][..],
            r#"{"id":"w","name":""}"#,
        ),
        ("ADEPLOY: the nexlet's garbage", "strange", &[], "\0garbage"),
    ] {
        let subject = of_tenant("ADEPLOY", bus.bid(workload_type).await.bidder_id);
        let request = start_request(workload_type, run).to_string();
        rows.push(Row::forwarded(name, &subject, request, headers, payload));
    }
    rows.push(Row::refused(
        "ADEPLOY: a nexlet that is not there",
        &of_tenant("ADEPLOY", bus.bid("absent").await.bidder_id),
        start_request("absent", run).to_string(),
        500,
        "failed to publish start workload request",
    ));

    check(&bus, node, &log, rows).await;
}

#[tokio::test]
async fn a_nexlet_that_does_not_answer_a_start_is_a_fault_of_the_node() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    let mut orders = bus.listen(&nexlet.starts()).await;
    let mut stops = bus.listen(&nexlet.stops()).await;
    let subject = of_tenant("ADEPLOY", bus.bid("echo").await.bidder_id);
    let request = start_request("echo", r#"{"uri":"file:///x"}"#).to_string();
    let inbox = bus.client.new_inbox();
    let mut replies = bus.listen(&inbox).await;

    let asked = bus
        .client
        .publish_with_reply(subject, inbox, request.into());
    asked.await.unwrap();
    let order = next(&mut orders).await;
    // The minute that a Go client waits is nearly over.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(56)).await;
    tokio::time::resume();
    let reply = next(&mut replies).await;

    let (code, header, text) = error(&reply);
    assert_eq!(code, ErrorCode::Internal);
    // Nor was the stop answered: nobody may start it elsewhere.
    assert_eq!(header, MAY_RUN);
    assert_eq!(text, "internal server error");
    // The client was told that it failed, so it must not run after all.
    let stop = next(&mut stops).await;
    let id = |subject: &str| subject.rsplit('.').next().unwrap().to_owned();
    assert_eq!(id(&stop.subject), id(&order.subject));
}

/// The answer to a stop that found nothing.
fn not_stopped(id: &str) -> impl Fn(&Value) -> bool + 'static {
    let wanted = json!({
        "id": id,
        "message": WORKLOAD_NOT_FOUND,
        "stopped": false,
        "workload_type": "",
    });
    move |value| *value == wanted
}

#[tokio::test]
async fn rows_of_stops() {
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;

    let node = bus.node().await;
    let own = WorkloadId::mint(node.id());
    let subject = of_tenant("UNDEPLOY", &own);
    let name = "UNDEPLOY: no nexlets";
    let mut rows = vec![
        Row::answered(name, &subject, DEFAULT, not_stopped(own.as_str())),
        mismatch("UNDEPLOY", &subject, OTHER),
    ];
    let text = "failed to unmarshal stop workload request";
    rows.extend(unreadable("UNDEPLOY", &subject, text));
    check(&bus, node, &log, rows).await;

    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet.answers(&nexlet.stops(), not_mine).await;
    let own = WorkloadId::mint(node.id());
    let rows = [own.as_str(), "foreign"].map(|id| {
        let name = format!("UNDEPLOY: no nexlet has `{id}`");
        let subject = of_tenant("UNDEPLOY", id);
        Row::answered(&name, &subject, DEFAULT, not_stopped(id))
    });
    check(&bus, node, &log, rows.into()).await;

    let node = bus.node().await;
    let _silent = bus.nexlet(node.id()).await;
    let name = "UNDEPLOY: silent nexlets";
    let subject = of_tenant("UNDEPLOY", "foreign");
    let rows = vec![Row::answered(
        name,
        &subject,
        DEFAULT,
        not_stopped("foreign"),
    )];
    check(&bus, node, &log, rows).await;
}

async fn not_mine(_: async_nats::Message) -> Vec<(HeaderMap, bytes::Bytes)> {
    let headers = error_headers(ErrorCode::Nexlet, WORKLOAD_NOT_FOUND);
    let text =
        r#"{"id":"w","message":"workload not found","stopped":false,"workload_type":"echo"}"#;
    vec![(headers, text.into())]
}

/// Answers a question for a stored start request by what the id says.
async fn stored(request: async_nats::Message) -> Vec<(HeaderMap, bytes::Bytes)> {
    let id = request.subject.rsplit('.').next().unwrap();
    let plain = |text: String| vec![(HeaderMap::new(), text.into())];
    let error = |text| vec![(error_headers(ErrorCode::Nexlet, text), "".into())];
    match id {
        "mine" => plain(start_request("echo", "{}").to_string()),
        "others" => {
            let mut request = start_request("echo", "{}");
            request["namespace"] = json!("other");
            plain(request.to_string())
        }
        "garbage" => plain("garbage".to_owned()),
        "null" => plain("null".to_owned()),
        "denied" => error(WORKLOAD_NOT_FOUND),
        "broken" => error("disk on fire"),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn rows_of_clones() {
    const UNUSABLE: &str = "failed to unmarshal workload definition from agent";
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet.answers(&nexlet.gets(), stored).await;
    nexlet.says(&nexlet.queries(), "null").await;
    let own = of_tenant("CLONE", WorkloadId::mint(node.id()));
    let clone = |id| of_tenant("CLONE", id);
    let system = clone("others").replace(".default.", ".system.");
    let mut rows = vec![
        mismatch("CLONE", &clone("mine"), OTHER),
        Row::silent("CLONE: nobody has it", &clone("nobodys"), DEFAULT),
        Row::silent("CLONE: the nexlet denies it", &clone("denied"), DEFAULT),
        Row::silent("CLONE: another's workload", &clone("others"), DEFAULT),
        Row::refused(
            "CLONE: nobody has it, and the node made the id",
            &own,
            DEFAULT,
            404,
            WORKLOAD_NOT_FOUND,
        ),
        Row::refused("CLONE: garbage", &clone("garbage"), DEFAULT, 500, UNUSABLE),
        Row::refused("CLONE: `null`", &clone("null"), DEFAULT, 500, UNUSABLE),
        Row::refused(
            "CLONE: another error",
            &clone("broken"),
            DEFAULT,
            500,
            UNUSABLE,
        ),
        Row::answered("CLONE: found", &clone("mine"), DEFAULT, |request| {
            request["name"] == "web" && request["namespace"] == "default"
        }),
        Row::answered("CLONE: `system` sees all", &system, DEFAULT, |request| {
            request["namespace"] == "other"
        }),
    ];
    let text = "failed to unmarshal clone workload request";
    rows.extend(unreadable("CLONE", &own, text));
    check(&bus, node, &log, rows).await;

    let node = bus.node().await;
    let own = of_tenant("CLONE", WorkloadId::mint(node.id()));
    let rows = vec![
        Row::silent("CLONE: no nexlets", &clone("nobodys"), DEFAULT),
        Row::refused("CLONE: no nexlets", &own, DEFAULT, 404, WORKLOAD_NOT_FOUND),
    ];
    check(&bus, node, &log, rows).await;
}

#[tokio::test]
async fn rows_of_lists() {
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;

    let node = bus.node().await;
    let mut rows = vec![
        Row::answered("WPING: no nexlets", WPING, DEFAULT, |list| {
            *list == json!([])
        }),
        mismatch("WPING", WPING, OTHER),
    ];
    rows.extend(unreadable(
        "WPING",
        WPING,
        "failed to unmarshal ping request",
    ));
    check(&bus, node, &log, rows).await;

    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    nexlet.says(&nexlet.queries(), "null").await;
    let name = "WPING: a nexlet that says `null`";
    let rows = vec![Row::answered(name, WPING, DEFAULT, |list| {
        *list == json!([])
    })];
    check(&bus, node, &log, rows).await;

    let node = bus.node().await;
    let _silent = bus.nexlet_as(node.id(), registration("silent")).await;
    let garbage = bus.nexlet_as(node.id(), registration("garbage")).await;
    garbage.says(&garbage.queries(), "garbage").await;
    let failing = bus.nexlet_as(node.id(), registration("failing")).await;
    failing
        .answers(&failing.queries(), |_| async {
            vec![(error_headers(ErrorCode::Nexlet, "no"), "".into())]
        })
        .await;
    let fine = bus.nexlet_as(node.id(), registration("fine")).await;
    let listed = json!([{
        "id": "w",
        "name": "web",
        "namespace": "default",
        "runtime": "--",
        "start_time": "",
        "tags": null,
        "workload_lifecycle": "job",
        "workload_state": "running",
        "workload_type": "fine",
    }]);
    fine.says(&fine.queries(), &listed.to_string()).await;
    let name = "WPING: nexlets that are silent, say garbage, and fail, beside one that is fine";
    let rows = vec![Row::answered(name, WPING, DEFAULT, |list| {
        list.as_array().is_some_and(|list| list.len() == 1) && list[0]["id"] == "w"
    })];
    check(&bus, node, &log, rows).await;
}

#[tokio::test]
async fn rows_of_registrations() {
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.allow_remote = true;
    let node = bus.node_with(config).await;
    let nexlet = bus.nexlet(node.id()).await;
    let subject = register(&node, &NexletId::mint());
    let id = node.id().to_string();
    let with_schema = |schema: &str| {
        let mut request = registration("echo");
        request.start_request_schema = schema.to_owned();
        encoded(&request)
    };
    let own = id.clone();
    let taken = move |reply: &Value| {
        reply["success"] == true
            && reply["message"] == ""
            && reply["node_id"] == *own
            && reply["existing_state"] == json!({})
            && reply["connection_data"]["nats_servers"].is_array()
    };
    let no_schema = "failed to compile schema";
    let mut rows = vec![
        Row::answered(
            "REGISTER",
            &subject,
            encoded(&registration("echo")),
            taken.clone(),
        ),
        Row::answered(
            "REGISTER: a known id",
            &register(&node, &nexlet.id),
            encoded(&registration("echo")),
            taken,
        ),
        Row::refused(
            "REGISTER: no type",
            &subject,
            encoded(&registration("")),
            400,
            "register_type is required",
        ),
        Row::refused(
            "REGISTER: a schema that is no JSON",
            &subject,
            with_schema("{"),
            400,
            "failed to unmarshal start request schema",
        )
        .told(Told::More("")),
        Row::refused(
            "REGISTER: no schema",
            &subject,
            with_schema(r#"{"type":"nonsense"}"#),
            500,
            no_schema,
        ),
        Row::refused(
            "REGISTER: a schema that reads files",
            &subject,
            with_schema(r#"{"$ref":"file:///etc/passwd"}"#),
            500,
            no_schema,
        ),
    ];
    let text = "failed to unmarshal register local agent request";
    rows.extend(unreadable("REGISTER", &subject, text));
    for request in ["{}", r#"{"more":1}"#, "null"] {
        let name = format!("RREGISTER: `{request}`");
        let id = id.clone();
        rows.push(Row::answered(&name, RREGISTER, request, move |reply| {
            reply["respond_to"] == *id
                && reply["assigned_agent_id"]
                    .as_str()
                    .is_some_and(|id| id.len() == 22)
                && reply["registration_creds"]["nats_servers"].is_array()
        }));
    }
    for request in ["", "garbage", "[]"] {
        let name = format!("RREGISTER: undecodable `{request}`");
        let text = "failed to unmarshal register remote agent request";
        rows.push(Row::refused(&name, RREGISTER, request, 400, text).told(Told::More("")));
    }

    check(&bus, node, &log, rows).await;
}

/// A minter whose key cannot sign: all that it should mint fails.
fn broken_minter() -> Minter {
    let account = KeyPair::new_account().public_key();
    Minter::SigningKey {
        signing_key: KeyPair::from_public_key(&account).unwrap(),
        account,
        servers: Vec::new(),
        tls: TlsFiles::default(),
        grant: WorkloadGrant::Narrow,
    }
}

#[tokio::test]
async fn rows_of_registrations_where_minting_fails() {
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.allow_remote = true;
    let connection = nex_nats::connect(&bus.options()).await.unwrap();
    let store = bus.store(&config);
    let node = Node::start(config, connection, broken_minter(), store)
        .await
        .unwrap();
    let rows = vec![
        Row::refused(
            "REGISTER: minting fails",
            &register(&node, &NexletId::mint()),
            encoded(&registration("echo")),
            500,
            "failed to mint nats connection",
        ),
        Row::answered(
            "REGISTER: minting fails, and nothing is kept",
            &of_node("INFO", &node),
            "",
            |info| {
                info["node_agent_summaries"]
                    .as_array()
                    .is_none_or(Vec::is_empty)
            },
        ),
        Row::refused(
            "RREGISTER: minting fails",
            RREGISTER,
            "{}",
            500,
            "failed to mint register",
        ),
    ];

    check(&bus, node, &log, rows).await;
}

#[tokio::test]
async fn rows_of_requests_that_are_too_large() {
    let (log, _guard) = Log::listen();
    let bus = Bus::start().await;
    let mut config = Bus::config();
    config.allow_remote = true;
    let node = bus.node_with(config).await;
    let large = "x".repeat(MAX_CONTROL_REQUEST_BYTES + 1);
    let text = "the request has 262145 bytes: a control request has at most 262144";
    let own = BidId::mint(node.id());
    let subjects = [
        PTAGS.to_owned(),
        PING.to_owned(),
        of_node("PING", &node),
        of_node("INFO", &node),
        of_node("LAMEDUCK", &node),
        of_node("AGENTID", &node),
        RREGISTER.to_owned(),
        register(&node, &NexletId::mint()),
        AUCTION.to_owned(),
        of_tenant("UNDEPLOY", "w"),
        of_tenant("ADEPLOY", &own),
        format!("{}.{}", of_tenant("ADEPLOY", &own), node.id()),
        of_tenant("CLONE", "w"),
        WPING.to_owned(),
    ];
    let mut rows: Vec<Row> = subjects
        .iter()
        .map(|subject| Row::refused(subject, subject, large.clone(), 400, text))
        .collect();
    let foreign = of_tenant("ADEPLOY", "0uiY97LTUBRG6sb4yR1thf");
    rows.push(Row::silent("ADEPLOY: of another node", &foreign, large));

    check(&bus, node, &log, rows).await;
}

/// Starts a workload on a nexlet that answers with these bytes as its header block, and returns
/// the headers that the client gets.
async fn forwarded_headers(block: &[u8]) -> Vec<(String, String)> {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let nexlet = bus.nexlet(node.id()).await;
    let mut raw = RawNats::connect(bus.server.url()).await.unwrap();
    raw.subscribe(&nexlet.starts()).await.unwrap();
    let subject = of_tenant("ADEPLOY", bus.bid("echo").await.bidder_id);
    let request = start_request("echo", r#"{"uri":"file:///x"}"#).to_string();

    let nexlet = async {
        let reply = raw.next().await.unwrap().reply.unwrap();
        let payload = br#"{"id":"w","name":"web"}"#;
        let answered = raw.publish(&reply, None, Some(block), payload);
        answered.await.unwrap();
    };
    let (reply, ()) = tokio::join!(bus.ask(&subject, request), nexlet);

    assert_eq!(reply.payload, r#"{"id":"w","name":"web"}"#);
    let headers = reply.headers.unwrap_or_default();
    let each = headers.iter().flat_map(|(name, values)| {
        let values = values.iter();
        values.map(|value| (name.to_string(), value.to_string()))
    });
    let mut each: Vec<_> = each.filter(|(name, _)| name != "Nex-Node").collect();
    each.sort();
    each
}

#[tokio::test]
async fn headers_of_a_nexlet_are_forwarded_on_one_line_each() {
    let long = format!("NATS/1.0\r\nX: {}\r\n\r\n", "x".repeat(3000));
    let cut = "x".repeat(1021) + "…";
    for (block, wanted) in [
        ("NATS/1.0\r\n\r\n", &[][..]),
        ("NATS/1.0\r\nA: one\rtwo\r\n\r\n", &[("A", "one two")]),
        (
            "NATS/1.0\r\nA: one\u{1}\u{b}two\t\r\n\r\n",
            &[("A", "one  two")],
        ),
        ("NATS/1.0\r\nA: one\r\n two\r\n\r\n", &[("A", "one two")]),
        (
            "NATS/1.0\r\nA: 1\r\nA: 2\r\na: 3\r\n\r\n",
            &[("A", "1"), ("A", "2"), ("a", "3")],
        ),
        (
            "NATS/1.0\r\nsynadia.com/group: g\r\n\r\n",
            &[("synadia.com/group", "g")],
        ),
        (&long, &[("X", cut.as_str())]),
        // Of the nexlet's word for the node's id the node takes none.
        ("NATS/1.0\r\nNex-Node: another\r\n\r\n", &[]),
    ] {
        let found = forwarded_headers(block.as_bytes()).await;

        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, wanted, "{block:?}");
    }
}

/// Shows that the node still has its connection: the next message, which is on its way behind the
/// last one, would be lost with it.
async fn still_hears(raw: &mut RawNats, node: &RunningNode) {
    let (ping, filter) = (of_node("PING", node), br#"{"filter":null}"#);
    let asked = raw.publish(&ping, Some("back.good"), None, filter);
    asked.await.unwrap();
    let answer = async { while raw.next().await.unwrap().subject != "back.good" {} };
    tokio::time::timeout(LIMIT, answer).await.unwrap();
}

#[tokio::test]
async fn headers_that_are_none_cost_the_node_nothing() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let mut raw = RawNats::connect(bus.server.url()).await.unwrap();
    raw.subscribe("back.*").await.unwrap();
    let blocks: [&[u8]; 10] = [
        b"NATS/1.0\r\nA: one\rtwo\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\nA\xc3\xa4 \x00: x\r\n\r\n",
        b"NATS/1.0\r\n: no name\r\n\r\n",
        b"NATS/1.0\r\n folded from nothing\r\n\r\n",
        b"NATS/1.0 teapot\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\r\n",
        b"\xff",
    ];

    for block in blocks {
        for subject in [of_node("PING", &node), "$SRV.PING".to_owned()] {
            let filter = br#"{"filter":null}"#;
            let asked = raw.publish(&subject, Some("back.bad"), Some(block), filter);
            asked.await.unwrap();
            // The headers are bad, the request is not.
            assert_eq!(raw.next().await.unwrap().subject, "back.bad", "{block:?}");
            still_hears(&mut raw, &node).await;
        }
    }
}

#[tokio::test]
async fn subjects_that_are_none_cost_the_node_nothing() {
    let bus = Bus::start().await;
    let node = bus.node().await;
    let mut raw = RawNats::connect(bus.server.url()).await.unwrap();
    raw.subscribe("back.*").await.unwrap();
    let id = node.id();
    let subjects = [
        "$NEX.SVC.{}.control.AUCTION".to_owned(),
        "$NEX.SVC.default.control.ADEPLOY.{}".to_owned(),
        "$NEX.SVC.system.control.HEARTBEAT.{}".to_owned(),
        "$NEX.FEED.{}.events.NODESTOPPED".to_owned(),
        format!("$NEX.SVC.{id}.agent.REGISTER.{{}}"),
        format!("$NEX.SVC.{id}.agent.HEARTBEAT.{{}}"),
    ];
    let tokens: [&[u8]; 5] = [b"\xff", b"\xc3", b"a\xe2\x80\x83b", b"a\x0bb", b"a\x0cb"];

    for subject in subjects {
        let (before, after) = subject.split_once("{}").unwrap();
        for token in tokens {
            for (verb, size) in [("PUB", "0"), ("HPUB", "12 12")] {
                // The place of the answer is as bad as that of the question.
                let mut message = format!("{verb} {before}").into_bytes();
                message.extend_from_slice(token);
                message.extend_from_slice(format!("{after} back-").as_bytes());
                message.extend_from_slice(token);
                message.extend_from_slice(format!(" {size}\r\n").as_bytes());
                if verb == "HPUB" {
                    message.extend_from_slice(b"NATS/1.0\r\n\r\n");
                }
                message.extend_from_slice(b"\r\n");
                raw.send(&message).await.unwrap();
                still_hears(&mut raw, &node).await;
            }
        }
    }
}

#[tokio::test]
async fn the_service_is_described_as_tools_expect_it() {
    let bus = Bus::start().await;
    for allow_remote in [true, false] {
        let mut config = Bus::config();
        config.allow_remote = allow_remote;
        let node = bus.node_with(config).await;

        let ping: Value = body(&bus.ask("$SRV.PING", "").await);
        let info: Value = body(&bus.ask("$SRV.INFO.nexnode", "").await);
        let id = info["id"].as_str().unwrap();
        let stats: Value = body(&bus.ask(&format!("$SRV.STATS.nexnode.{id}"), "").await);

        let endpoints = endpoints(&node, allow_remote);
        for (kind, answer) in [("ping", &ping), ("info", &info), ("stats", &stats)] {
            assert_eq!(answer["type"], format!("io.nats.micro.v1.{kind}_response"));
            assert_eq!(answer["name"], "nexnode");
            assert_eq!(answer["id"], id);
            assert_eq!(answer["version"], "0.5.0");
            assert_eq!(answer["metadata"], json!({}));
        }
        assert_eq!(info["endpoints"], endpoints);
        let counted = stats["endpoints"].as_array().unwrap().iter();
        let counted: Vec<Value> = counted
            .map(|one| json!([one["name"], one["subject"], one["queue_group"]]))
            .collect();
        let described = endpoints.as_array().unwrap().iter();
        let described: Vec<Value> = described
            .map(|one| json!([one["name"], one["subject"], one["queue_group"]]))
            .collect();
        assert_eq!(counted, described);
        node.stop(Duration::ZERO).await;
    }
}

/// The endpoints of a node, in their order, as discovery shows them.
fn endpoints(node: &RunningNode, allow_remote: bool) -> Value {
    let id = node.id().as_str();
    let mut endpoints = vec![
        ("PingPlacementTags", "$NEX.SVC.system.control.PTAGS", id),
        ("PingNexus", "$NEX.SVC.system.control.PING", id),
        ("PingNode", "$NEX.SVC.system.control.PING.{N}", id),
        ("GetNodeInfo", "$NEX.SVC.system.control.INFO.{N}", id),
        ("SetLameduck", "$NEX.SVC.system.control.LAMEDUCK.{N}", id),
        (
            "GetAgentIdByName",
            "$NEX.SVC.system.control.AGENTID.{N}",
            id,
        ),
        (
            "RegisterRemoteAgent",
            "$NEX.SVC.nexus.agent.RREGISTER",
            "nexus",
        ),
        ("RegisterAgent", "$NEX.SVC.{N}.agent.REGISTER.*", id),
        ("AuctionRequest", "$NEX.SVC.*.control.AUCTION", id),
        ("StopWorkload", "$NEX.SVC.*.control.UNDEPLOY.*", id),
        ("AuctionDeployWorkload", "$NEX.SVC.*.control.ADEPLOY.*", id),
        (
            "AuctionDeployWorkloadToNode",
            "$NEX.SVC.*.control.ADEPLOY.*.{N}",
            id,
        ),
        ("CloneWorkload", "$NEX.SVC.*.control.CLONE.*", id),
        ("NamespacePingRequest", "$NEX.SVC.*.control.WPING", id),
    ];
    endpoints.retain(|(name, ..)| allow_remote || *name != "RegisterRemoteAgent");
    let each = endpoints.into_iter().map(|(name, subject, queue_group)| {
        json!({
            "name": name,
            "subject": subject.replace("{N}", id),
            "queue_group": queue_group,
            "metadata": null,
        })
    });
    each.collect()
}
