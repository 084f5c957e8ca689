//! Events, ingress, errors and the small ones.

use super::{namespace, nexlet, node, tags, time, workload, xkey};
use crate::{
    EncryptedEnvironment, ErrorBody,
    event::{
        NexletLameduckSet, NexletStarted, NexletStopped, NodeLameduckCleared, NodeLameduckSet,
        NodeStarted, NodeStopped, WorkloadError, WorkloadEvent, WorkloadTriggered,
    },
    function::{FilterSubject, StreamName, StreamTrigger, SubjectTrigger, Trigger, TriggerSubject},
    ingress::{IngressCommand, IngressData, IngressMessage, WorkloadLocation},
    tests::messages::Message,
};

pub(super) fn all() -> Vec<Message> {
    let mut all = node_events();
    all.extend(workload_events());
    all.extend(ingress());
    all.extend(small());
    all
}

fn node_events() -> Vec<Message> {
    vec![
        Message::new(
            "event-node-started",
            "id name nexus tags type",
            "",
            "",
            &NodeStarted {
                id: node(),
                name: "n1".into(),
                nexus: "nexus".into(),
                tags: tags(),
                schema: "io.synadia.nex.event.nexnode_started".into(),
            },
        ),
        Message::new(
            "event-node-stopped",
            "id",
            "",
            "",
            &NodeStopped { id: node() },
        ),
        Message::new(
            "event-node-lameduck-set",
            "id time",
            "",
            "",
            &NodeLameduckSet {
                id: node(),
                time: time(),
            },
        ),
        Message::new(
            "event-node-lameduck-cleared",
            "id",
            "",
            "",
            &NodeLameduckCleared { id: node() },
        ),
        Message::new(
            "event-nexlet-started",
            "id name register_type",
            "",
            "",
            &NexletStarted {
                id: nexlet(),
                name: "my_nexlet".into(),
                register_type: "native".into(),
            },
        ),
        Message::new(
            "event-nexlet-stopped",
            "id name reason timestamp",
            "",
            "",
            &NexletStopped {
                id: nexlet(),
                name: "my_nexlet".into(),
                reason: "killed".into(),
                timestamp: time(),
            },
        ),
        Message::new(
            "event-nexlet-lameduck-set",
            "success",
            "",
            "",
            &NexletLameduckSet { success: true },
        ),
    ]
}

fn workload_events() -> Vec<Message> {
    let error = || WorkloadError {
        code: "3".into(),
        message: "exit status 3".into(),
    };
    vec![
        Message::new(
            // Started and stopped alike.
            "event-workload",
            "id namespace workload_type",
            "error metadata",
            "",
            &WorkloadEvent {
                error: Some(error()),
                id: workload(),
                metadata: tags(),
                namespace: namespace(),
                workload_type: "native".into(),
            },
        ),
        Message::new("workload-error", "code message", "", "", &error()),
        Message::new(
            "event-workload-triggered",
            "duration id namespace",
            "",
            "",
            &WorkloadTriggered {
                duration: 12.5,
                id: workload(),
                namespace: namespace(),
            },
        ),
    ]
}

fn ingress() -> Vec<Message> {
    vec![
        Message::new(
            "ingress-message",
            "command upstream workload_id",
            "",
            "",
            &IngressMessage {
                command: IngressCommand::Add,
                upstream: "10.0.0.5:8080".into(),
                workload_id: workload(),
            },
        ),
        Message::new(
            "ingress-data",
            "host_machine_ip_addr ingress_reporting_subject",
            "",
            "",
            &IngressData {
                host_machine_ip_addr: "10.0.0.5".into(),
                ingress_reporting_subject: "ingress.updates".into(),
            },
        ),
        Message::new(
            "workload-location",
            "node_id",
            "",
            "",
            &WorkloadLocation { node_id: node() },
        ),
    ]
}

fn small() -> Vec<Message> {
    vec![
        Message::new(
            "encrypted-environment",
            "base64_encrypted_env encrypted_by",
            "",
            "",
            &EncryptedEnvironment {
                base64_encrypted_env: "eGt2MQ==".into(),
                encrypted_by: xkey(),
            },
        ),
        Message::new(
            "error-body",
            "error_id error",
            "",
            "",
            &ErrorBody {
                error_id: "XJBwoZWLGOz2fX82w50dSD".into(),
                error: "namespace mismatch".into(),
            },
        ),
        Message::new(
            "trigger",
            "subject",
            "",
            "broadcast",
            &Trigger::Subject(SubjectTrigger {
                subject: TriggerSubject::new("orders.*").unwrap(),
                broadcast: true,
            }),
        ),
        Message::new(
            "trigger-stream",
            "stream max_deliver back_off ack_wait",
            "",
            "filter",
            &Trigger::Stream(StreamTrigger {
                filter: Some(FilterSubject::new("orders.*").unwrap()),
                ..StreamTrigger::new(StreamName::new("ORDERS").unwrap())
            }),
        ),
    ]
}
