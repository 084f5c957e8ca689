//! Subjects.

use proptest::prelude::*;

use super::{bid_id, namespace, nexlet, nexus, node, token, workload};
use crate::{LogStream, Subject};

/// Any subject of the protocol.
pub(in crate::tests) fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![of_nodes(), of_workloads(), of_nexlets(), feeds()]
}

fn of_nodes() -> impl Strategy<Value = Subject> {
    prop_oneof![
        Just(Subject::PlacementTags),
        Just(Subject::Ping),
        node().prop_map(Subject::PingNode),
        node().prop_map(Subject::NodeInfo),
        node().prop_map(Subject::Lameduck),
        node().prop_map(Subject::NexletIdByName),
        node().prop_map(Subject::NodeHeartbeat),
        nexus().prop_map(Subject::RegisterRemote),
        (node(), nexlet()).prop_map(|(node, nexlet)| Subject::Register(node, nexlet)),
        (node(), nexlet()).prop_map(|(node, nexlet)| Subject::NexletHeartbeat(node, nexlet)),
    ]
}

fn of_workloads() -> impl Strategy<Value = Subject> {
    prop_oneof![
        namespace().prop_map(Subject::Auction),
        (namespace(), bid_id()).prop_map(|(namespace, bid)| Subject::Deploy(namespace, bid)),
        (namespace(), bid_id(), node())
            .prop_map(|(namespace, bid, node)| Subject::DeployTo(namespace, bid, node)),
        (namespace(), workload()).prop_map(|(namespace, id)| Subject::Undeploy(namespace, id)),
        (namespace(), workload()).prop_map(|(namespace, id)| Subject::Clone(namespace, id)),
        namespace().prop_map(Subject::ListWorkloads),
        (namespace(), workload()).prop_map(|(namespace, id)| Subject::ListWorkload(namespace, id)),
        (nexus(), workload()).prop_map(|(nexus, id)| Subject::FindWorkload(nexus, id)),
    ]
}

fn of_nexlets() -> impl Strategy<Value = Subject> {
    prop_oneof![
        (node(), nexlet(), workload())
            .prop_map(|(node, nexlet, id)| Subject::StartWorkload(node, nexlet, id)),
        (node(), workload()).prop_map(|(node, id)| Subject::StopWorkload(node, id)),
        (node(), workload()).prop_map(|(node, id)| Subject::GetWorkload(node, id)),
        node().prop_map(Subject::QueryWorkloads),
        (node(), nexlet()).prop_map(|(node, nexlet)| Subject::NexletPing(node, nexlet)),
        node().prop_map(Subject::NexletPingAll),
        node().prop_map(Subject::NexletLameduck),
    ]
}

fn feeds() -> impl Strategy<Value = Subject> {
    let stream = prop_oneof![Just(LogStream::Stdout), Just(LogStream::Stderr)];
    prop_oneof![
        (namespace(), workload(), stream)
            .prop_map(|(namespace, id, stream)| Subject::Logs(namespace, id, stream)),
        (namespace(), workload()).prop_map(|(namespace, id)| Subject::Metrics(namespace, id)),
        (token(), token()).prop_map(|(from, name)| Subject::Event(from, name)),
    ]
}
