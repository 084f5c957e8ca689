//! The table of subjects.

use std::{fmt::Write as _, path::Path};

use super::files;
use crate::{
    BidId, LogStream, Namespace, NexletId, NexusName, NodeId, Subject, WorkloadId,
    subject::{PRIVATE_INBOX, pattern},
};

fn node() -> NodeId {
    NodeId::new(format!("N{}", "A".repeat(55))).unwrap()
}

fn nexlet() -> NexletId {
    NexletId::new("nexlet").unwrap()
}

fn namespace() -> Namespace {
    Namespace::new("tenant").unwrap()
}

fn nexus() -> NexusName {
    NexusName::new("nexus").unwrap()
}

fn workload() -> WorkloadId {
    WorkloadId::new("workload").unwrap()
}

fn of_nodes() -> Vec<Subject> {
    vec![
        Subject::PlacementTags,
        Subject::Ping,
        Subject::PingNode(node()),
        Subject::NodeInfo(node()),
        Subject::Lameduck(node()),
        Subject::NexletIdByName(node()),
        Subject::NodeHeartbeat(node()),
        Subject::RegisterRemote(nexus()),
        Subject::Register(node(), nexlet()),
        Subject::NexletHeartbeat(node(), nexlet()),
        Subject::Auction(namespace()),
        Subject::Deploy(namespace(), BidId::new("bid").unwrap()),
        Subject::DeployTo(namespace(), BidId::new("bid").unwrap(), node()),
        Subject::Undeploy(namespace(), workload()),
        Subject::Clone(namespace(), workload()),
        Subject::ListWorkloads(namespace()),
        Subject::ListWorkload(namespace(), workload()),
    ]
}

fn of_nexlets() -> Vec<Subject> {
    vec![
        Subject::StartWorkload(node(), nexlet(), workload()),
        Subject::StopWorkload(node(), workload()),
        Subject::GetWorkload(node(), workload()),
        Subject::QueryWorkloads(node()),
        Subject::NexletPing(node(), nexlet()),
        Subject::NexletPingAll(node()),
        Subject::NexletLameduck(node()),
        Subject::FindWorkload(nexus(), workload()),
    ]
}

fn feeds() -> Vec<Subject> {
    let event = |from: &str, name: &str| Subject::Event(from.to_owned(), name.to_owned());
    let node_log = WorkloadId::new(node().as_str()).unwrap();
    vec![
        Subject::Logs(namespace(), workload(), LogStream::Stdout),
        Subject::Logs(namespace(), workload(), LogStream::Stderr),
        // A node's own log looks like that of a workload of the system.
        Subject::Logs(Namespace::system(), node_log, LogStream::Stdout),
        Subject::Metrics(namespace(), workload()),
        event(node().as_str(), "NODESTARTED"),
        event(node().as_str(), "NODESTOPPED"),
        event(node().as_str(), "NODELAMEDUCKSET"),
        event(node().as_str(), "NODELAMEDUCKCLEARED"),
        event(node().as_str(), "AGENTSTARTED"),
        event(node().as_str(), "AGENTSTOPPED"),
        event(node().as_str(), "AGENTLAMEDUCKSET"),
        event("tenant", "WORKLOADSTARTED"),
        event("tenant", "WORKLOADSTOPPED"),
        event("tenant", "WORKLOADTRIGGERED"),
        event("nexlet", "INGRESS"),
    ]
}

fn patterns() -> Vec<(&'static str, String)> {
    let fixed = |(name, text): (_, &str)| (name, text.to_owned());
    let mut patterns: Vec<_> = [
        ("PRIVATE_INBOX", PRIVATE_INBOX),
        ("PRIVATE_INBOXES", pattern::PRIVATE_INBOXES),
        ("SERVICES", pattern::SERVICES),
        ("FEEDS", pattern::FEEDS),
        ("AUCTION", pattern::AUCTION),
        ("DEPLOY", pattern::DEPLOY),
        ("UNDEPLOY", pattern::UNDEPLOY),
        ("CLONE", pattern::CLONE),
        ("LIST_WORKLOADS", pattern::LIST_WORKLOADS),
        ("NODE_HEARTBEATS", pattern::NODE_HEARTBEATS),
        ("NEXLET_TRAFFIC", pattern::NEXLET_TRAFFIC),
    ]
    .into_iter()
    .map(fixed)
    .collect();
    patterns.extend([
        ("register", pattern::register(&node())),
        ("nexlet_heartbeats", pattern::nexlet_heartbeats(&node())),
        (
            "start_workload",
            pattern::start_workload(&node(), &nexlet()),
        ),
        ("stop_workload", pattern::stop_workload(&node())),
        ("get_workload", pattern::get_workload(&node())),
        ("ping_workload", pattern::ping_workload(&nexus())),
        ("logs", pattern::logs(&namespace())),
        ("logs of system", pattern::logs(&Namespace::system())),
        ("events", pattern::events(&namespace())),
        ("events of system", pattern::events(&Namespace::system())),
    ]);
    patterns
}

fn all() -> Vec<Subject> {
    [of_nodes(), of_nexlets(), feeds()].concat()
}

#[test]
fn the_table_of_subjects_is_that_of_the_code() {
    let short = |text: &str| text.replace(node().as_str(), "<node>");
    let mut table = String::from("Subjects\n");
    for subject in all() {
        let name = format!("{subject:?}");
        let variant = name.split('(').next().unwrap();
        writeln!(table, "{variant:<18}{}", short(&subject.to_string())).unwrap();
    }
    table.push_str("\nPatterns\n");
    for (name, text) in patterns() {
        writeln!(table, "{name:<18}{}", short(&text)).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/subjects.txt");
    files::check(&path, &table);
}

#[test]
fn every_subject_reads_back() {
    for subject in all() {
        let text = subject.to_string();
        assert_eq!(Subject::parse(&text), Some(subject), "{text}");
    }
}
