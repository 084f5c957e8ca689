//! Events, ingress, errors and the small ones.

use proptest::prelude::*;

use super::{any_struct, float, maybe, namespace, nexlet, node, tags, text, time, workload};
use crate::{
    EncryptedEnvironment, ErrorBody,
    event::{
        Event, NexletLameduckSet, NexletStarted, NexletStopped, NodeStarted, WorkloadError,
        WorkloadEvent, WorkloadTriggered,
    },
    function::{SubjectTrigger, Trigger, TriggerSubject},
    ingress::{IngressCommand, IngressData, IngressMessage, WorkloadLocation},
};

any_struct!(node_started: NodeStarted {
    id: node(),
    name: text(),
    nexus: text(),
    tags: tags(),
    schema: text(),
});

any_struct!(nexlet_started: NexletStarted { id: nexlet(), name: text(), register_type: text() });

any_struct!(nexlet_stopped: NexletStopped {
    id: nexlet(),
    name: text(),
    reason: text(),
    timestamp: time(),
});

any_struct!(nexlet_lameduck: NexletLameduckSet { success: any::<bool>() });

any_struct!(workload_error: WorkloadError { code: text(), message: text() });

any_struct!(workload_event: WorkloadEvent {
    error: maybe(workload_error()),
    id: workload(),
    metadata: tags(),
    namespace: namespace(),
    workload_type: text(),
});

any_struct!(triggered: WorkloadTriggered {
    duration: float(),
    id: workload(),
    namespace: namespace(),
});

pub(in crate::tests) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        node_started().prop_map(Event::NodeStarted),
        node().prop_map(Event::NodeStopped),
        (node(), time()).prop_map(|(node, time)| Event::NodeLameduckSet(node, time)),
        node().prop_map(Event::NodeLameduckCleared),
        (node(), nexlet_started()).prop_map(|(node, body)| Event::NexletStarted(node, body)),
        (node(), nexlet_stopped()).prop_map(|(node, body)| Event::NexletStopped(node, body)),
        (node(), nexlet_lameduck()).prop_map(|(node, body)| Event::NexletLameduckSet(node, body)),
        workload_event().prop_map(Event::WorkloadStarted),
        workload_event().prop_map(Event::WorkloadStopped),
        triggered().prop_map(Event::WorkloadTriggered),
        (nexlet(), ingress_message()).prop_map(|(nexlet, body)| Event::Ingress(nexlet, body)),
    ]
}

fn command() -> impl Strategy<Value = IngressCommand> {
    prop_oneof![Just(IngressCommand::Add), Just(IngressCommand::Remove)]
}

any_struct!(ingress_message: IngressMessage {
    command: command(),
    upstream: text(),
    workload_id: workload(),
});

any_struct!(ingress_data: IngressData {
    host_machine_ip_addr: text(),
    ingress_reporting_subject: text(),
});

any_struct!(location: WorkloadLocation { node_id: node() });

any_struct!(environment: EncryptedEnvironment {
    base64_encrypted_env: text(),
    encrypted_by: text(),
});

any_struct!(error_body: ErrorBody { error_id: text(), error: text() });

/// Any subject that functions may listen on.
pub(in crate::tests) fn trigger_subject() -> impl Strategy<Value = TriggerSubject> {
    let first = r"[^\s\p{C}.*>$]{1,8}";
    let rest = proptest::collection::vec(prop_oneof![r"[^\s\p{C}.*>]{1,8}", "\\*"], 0..4);
    (first, rest, any::<bool>()).prop_map(|(first, rest, all_below)| {
        let mut tokens = vec![first];
        tokens.extend(rest);
        if all_below {
            tokens.push(">".to_owned());
        }
        TriggerSubject::new(tokens.join(".")).unwrap()
    })
}

pub(in crate::tests) fn trigger() -> impl Strategy<Value = Trigger> {
    (trigger_subject(), any::<bool>())
        .prop_map(|(subject, broadcast)| Trigger::Subject(SubjectTrigger { subject, broadcast }))
}
