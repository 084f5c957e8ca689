//! Every subject of the protocol.
//!
//! [`Subject`] is a subject that somebody publishes to. What a service subscribes to, with its
//! wildcards, is in [`pattern`].

use std::fmt;

use crate::ids::{BidId, Namespace, NexletId, NexusName, NodeId, WorkloadId, is_token};

/// Which output of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogStream {
    /// The last token of the log subject.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What the inboxes of nodes, nexlets and the command line begin with.
///
/// The answer to a registration has credentials in it, and that to a clone a workload's
/// environment: whoever may not see them is denied these inboxes. They are below `_INBOX`, so that
/// the credentials that a Go node mints reach them too.
pub const PRIVATE_INBOX: &str = "_INBOX.NEX";

/// A subject without wildcards.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Asks all nodes for their tags.
    PlacementTags,
    /// Asks all nodes who they are.
    Ping,
    /// Asks one node who it is.
    PingNode(NodeId),
    /// Asks one node about itself and its nexlets.
    NodeInfo(NodeId),
    /// Tells one node to drain.
    Lameduck(NodeId),
    /// Asks one node for the id of a nexlet by its name.
    NexletIdByName(NodeId),
    /// Where a node says that it lives.
    NodeHeartbeat(NodeId),
    /// Asks any node of a nexus to take a remote nexlet.
    RegisterRemote(NexusName),
    /// Registers a nexlet with its node.
    Register(NodeId, NexletId),
    /// Where a nexlet says that it lives.
    NexletHeartbeat(NodeId, NexletId),
    /// Asks all nodes for bids.
    Auction(Namespace),
    /// Deploys on a bid. All nodes hear it.
    Deploy(Namespace, BidId),
    /// Extension: deploys on a bid of that node, and only it hears it.
    DeployTo(Namespace, BidId, NodeId),
    /// Stops a workload.
    Undeploy(Namespace, WorkloadId),
    /// Asks for the start request of a workload.
    Clone(Namespace, WorkloadId),
    /// Asks all nodes for their workloads.
    ListWorkloads(Namespace),
    /// Asks all nodes for one workload. Go Nex defines it; nobody serves it.
    ListWorkload(Namespace, WorkloadId),
    /// Asks the nexlets of a nexus which node runs a workload.
    FindWorkload(NexusName, WorkloadId),
    /// Tells one nexlet to start a workload.
    StartWorkload(NodeId, NexletId, WorkloadId),
    /// Tells the nexlets of a node to stop a workload.
    StopWorkload(NodeId, WorkloadId),
    /// Asks the nexlets of a node for a workload's start request.
    GetWorkload(NodeId, WorkloadId),
    /// Asks the nexlets of a node for their workloads.
    QueryWorkloads(NodeId),
    /// Asks one nexlet who it is.
    NexletPing(NodeId, NexletId),
    /// Asks the nexlets of a node who they are.
    NexletPingAll(NodeId),
    /// Tells the nexlets of a node to drain.
    NexletLameduck(NodeId),
    /// Output of a workload.
    Logs(Namespace, WorkloadId, LogStream),
    /// Metrics of a workload.
    Metrics(Namespace, WorkloadId),
    /// An event: who it is about (a node id, a nexlet id or a namespace), then its name.
    Event(String, String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlacementTags => f.write_str("$NEX.SVC.system.control.PTAGS"),
            Self::Ping => f.write_str("$NEX.SVC.system.control.PING"),
            Self::PingNode(node) => write!(f, "$NEX.SVC.system.control.PING.{node}"),
            Self::NodeInfo(node) => write!(f, "$NEX.SVC.system.control.INFO.{node}"),
            Self::Lameduck(node) => write!(f, "$NEX.SVC.system.control.LAMEDUCK.{node}"),
            Self::NexletIdByName(node) => write!(f, "$NEX.SVC.system.control.AGENTID.{node}"),
            Self::NodeHeartbeat(node) => write!(f, "$NEX.SVC.system.control.HEARTBEAT.{node}"),
            Self::RegisterRemote(nexus) => write!(f, "$NEX.SVC.{nexus}.agent.RREGISTER"),
            Self::Register(node, nexlet) => write!(f, "$NEX.SVC.{node}.agent.REGISTER.{nexlet}"),
            Self::NexletHeartbeat(node, nexlet) => {
                write!(f, "$NEX.SVC.{node}.agent.HEARTBEAT.{nexlet}")
            }
            Self::Auction(namespace) => write!(f, "$NEX.SVC.{namespace}.control.AUCTION"),
            Self::Deploy(namespace, bid) => write!(f, "$NEX.SVC.{namespace}.control.ADEPLOY.{bid}"),
            Self::DeployTo(namespace, bid, node) => {
                write!(f, "$NEX.SVC.{namespace}.control.ADEPLOY.{bid}.{node}")
            }
            Self::Undeploy(namespace, id) => {
                write!(f, "$NEX.SVC.{namespace}.control.UNDEPLOY.{id}")
            }
            Self::Clone(namespace, id) => write!(f, "$NEX.SVC.{namespace}.control.CLONE.{id}"),
            Self::ListWorkloads(namespace) => write!(f, "$NEX.SVC.{namespace}.control.WPING"),
            Self::ListWorkload(namespace, id) => {
                write!(f, "$NEX.SVC.{namespace}.control.WPING.{id}")
            }
            Self::FindWorkload(nexus, id) => write!(f, "$NEX.SVC.{nexus}.agent.PINGWORKLOAD.{id}"),
            Self::StartWorkload(node, nexlet, id) => {
                write!(f, "$NEX.SVC.{node}.agent.{nexlet}.STARTWORKLOAD.{id}")
            }
            Self::StopWorkload(node, id) => write!(f, "$NEX.SVC.{node}.agent.STOPWORKLOAD.{id}"),
            Self::GetWorkload(node, id) => write!(f, "$NEX.SVC.{node}.agent.GETWORKLOAD.{id}"),
            Self::QueryWorkloads(node) => write!(f, "$NEX.SVC.{node}.agent.QUERYWORKLOADS"),
            Self::NexletPing(node, nexlet) => write!(f, "$NEX.SVC.{node}.agent.{nexlet}.PING"),
            Self::NexletPingAll(node) => write!(f, "$NEX.SVC.{node}.agent.PING"),
            Self::NexletLameduck(node) => write!(f, "$NEX.SVC.{node}.agent.SETLAMEDUCK"),
            Self::Logs(namespace, id, stream) => {
                write!(f, "$NEX.FEED.{namespace}.logs.{id}.{}", stream.as_str())
            }
            Self::Metrics(namespace, id) => write!(f, "$NEX.FEED.{namespace}.metrics.{id}"),
            Self::Event(from, name) => write!(f, "$NEX.FEED.{from}.events.{name}"),
        }
    }
}

impl Subject {
    /// Reads a subject; `None` where it is none of the protocol's, or a token of it is invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let tokens: Vec<&str> = text.split('.').collect();
        match tokens.as_slice() {
            ["$NEX", "SVC", "system", "control", "PTAGS"] => Some(Self::PlacementTags),
            ["$NEX", "SVC", "system", "control", "PING"] => Some(Self::Ping),
            ["$NEX", "SVC", scope, "control", rest @ ..] => Self::parse_control(scope, rest),
            ["$NEX", "SVC", scope, "agent", rest @ ..] => Self::parse_nexlet(scope, rest),
            ["$NEX", "FEED", from, rest @ ..] => Self::parse_feed(from, rest),
            _ => None,
        }
    }

    fn parse_control(scope: &str, rest: &[&str]) -> Option<Self> {
        let node = |id: &str| (scope == "system").then(|| NodeId::new(id).ok()).flatten();
        let namespace = || Namespace::new(scope).ok();
        match rest {
            ["PING", id] => Some(Self::PingNode(node(id)?)),
            ["INFO", id] => Some(Self::NodeInfo(node(id)?)),
            ["LAMEDUCK", id] => Some(Self::Lameduck(node(id)?)),
            ["AGENTID", id] => Some(Self::NexletIdByName(node(id)?)),
            ["HEARTBEAT", id] => Some(Self::NodeHeartbeat(node(id)?)),
            ["AUCTION"] => Some(Self::Auction(namespace()?)),
            ["WPING"] => Some(Self::ListWorkloads(namespace()?)),
            ["WPING", id] => Some(Self::ListWorkload(namespace()?, WorkloadId::new(*id).ok()?)),
            ["ADEPLOY", bid] => Some(Self::Deploy(namespace()?, BidId::new(*bid).ok()?)),
            ["ADEPLOY", bid, node] => Some(Self::DeployTo(
                namespace()?,
                BidId::new(*bid).ok()?,
                NodeId::new(*node).ok()?,
            )),
            ["UNDEPLOY", id] => Some(Self::Undeploy(namespace()?, WorkloadId::new(*id).ok()?)),
            ["CLONE", id] => Some(Self::Clone(namespace()?, WorkloadId::new(*id).ok()?)),
            _ => None,
        }
    }

    fn parse_nexlet(scope: &str, rest: &[&str]) -> Option<Self> {
        let nexus = || NexusName::new(scope).ok();
        match rest {
            ["RREGISTER"] => return Some(Self::RegisterRemote(nexus()?)),
            ["PINGWORKLOAD", id] => {
                return Some(Self::FindWorkload(nexus()?, WorkloadId::new(*id).ok()?));
            }
            _ => {}
        }
        let node = NodeId::new(scope).ok()?;
        match rest {
            ["REGISTER", nexlet] => Some(Self::Register(node, NexletId::new(*nexlet).ok()?)),
            ["HEARTBEAT", nexlet] => {
                Some(Self::NexletHeartbeat(node, NexletId::new(*nexlet).ok()?))
            }
            ["STOPWORKLOAD", id] => Some(Self::StopWorkload(node, WorkloadId::new(*id).ok()?)),
            ["GETWORKLOAD", id] => Some(Self::GetWorkload(node, WorkloadId::new(*id).ok()?)),
            ["QUERYWORKLOADS"] => Some(Self::QueryWorkloads(node)),
            ["PING"] => Some(Self::NexletPingAll(node)),
            ["SETLAMEDUCK"] => Some(Self::NexletLameduck(node)),
            [nexlet, "PING"] => Some(Self::NexletPing(node, NexletId::new(*nexlet).ok()?)),
            [nexlet, "STARTWORKLOAD", id] => Some(Self::StartWorkload(
                node,
                NexletId::new(*nexlet).ok()?,
                WorkloadId::new(*id).ok()?,
            )),
            _ => None,
        }
    }

    fn parse_feed(from: &str, rest: &[&str]) -> Option<Self> {
        match rest {
            ["logs", id, stream] => {
                let stream = match *stream {
                    "stdout" => LogStream::Stdout,
                    "stderr" => LogStream::Stderr,
                    _ => return None,
                };
                let namespace = Namespace::new(from).ok()?;
                Some(Self::Logs(namespace, WorkloadId::new(*id).ok()?, stream))
            }
            ["metrics", id] => Some(Self::Metrics(
                Namespace::new(from).ok()?,
                WorkloadId::new(*id).ok()?,
            )),
            ["events", name] if is_token(from) && is_token(name) => {
                Some(Self::Event((*from).to_owned(), (*name).to_owned()))
            }
            _ => None,
        }
    }
}

/// What services subscribe to, and what credentials grant: subjects with wildcards.
pub mod pattern {
    use crate::ids::{Namespace, NexletId, NexusName, NodeId, WorkloadId};

    /// The inboxes below [`PRIVATE_INBOX`](super::PRIVATE_INBOX).
    pub const PRIVATE_INBOXES: &str = "_INBOX.NEX.>";
    /// All requests to nodes, and what nodes and nexlets say to each other.
    pub const SERVICES: &str = "$NEX.SVC.>";
    /// Everything that is published about nodes and workloads.
    pub const FEEDS: &str = "$NEX.FEED.>";
    /// Auctions of every namespace.
    pub const AUCTION: &str = "$NEX.SVC.*.control.AUCTION";
    /// Deploys of every namespace.
    pub const DEPLOY: &str = "$NEX.SVC.*.control.ADEPLOY.*";
    /// Stops of every namespace.
    pub const UNDEPLOY: &str = "$NEX.SVC.*.control.UNDEPLOY.*";
    /// Clones of every namespace.
    pub const CLONE: &str = "$NEX.SVC.*.control.CLONE.*";
    /// Lists of every namespace.
    pub const LIST_WORKLOADS: &str = "$NEX.SVC.*.control.WPING";
    /// Heartbeats of all nodes.
    pub const NODE_HEARTBEATS: &str = "$NEX.SVC.system.control.HEARTBEAT.*";
    /// What nodes and nexlets say to each other.
    pub const NEXLET_TRAFFIC: &str = "$NEX.SVC.*.agent.>";

    /// Deploys of every namespace that only one node hears.
    #[must_use]
    pub fn deploy_to(node: &NodeId) -> String {
        format!("$NEX.SVC.*.control.ADEPLOY.*.{node}")
    }

    /// Registrations of a node's nexlets.
    #[must_use]
    pub fn register(node: &NodeId) -> String {
        format!("$NEX.SVC.{node}.agent.REGISTER.*")
    }

    /// Registrations of nexlets with any node.
    pub const REGISTRATIONS: &str = "$NEX.SVC.*.agent.REGISTER.*";

    /// Heartbeats of a node's nexlets.
    #[must_use]
    pub fn nexlet_heartbeats(node: &NodeId) -> String {
        format!("$NEX.SVC.{node}.agent.HEARTBEAT.*")
    }

    /// Starts addressed to one nexlet.
    #[must_use]
    pub fn start_workload(node: &NodeId, nexlet: &NexletId) -> String {
        format!("$NEX.SVC.{node}.agent.{nexlet}.STARTWORKLOAD.*")
    }

    /// Stops that all nexlets of a node hear.
    #[must_use]
    pub fn stop_workload(node: &NodeId) -> String {
        format!("$NEX.SVC.{node}.agent.STOPWORKLOAD.*")
    }

    /// Questions for a start request that all nexlets of a node hear.
    #[must_use]
    pub fn get_workload(node: &NodeId) -> String {
        format!("$NEX.SVC.{node}.agent.GETWORKLOAD.*")
    }

    /// Discovery of workloads behind an ingress.
    #[must_use]
    pub fn ping_workload(nexus: &NexusName) -> String {
        format!("$NEX.SVC.{nexus}.agent.PINGWORKLOAD.*")
    }

    /// The logs of one workload.
    #[must_use]
    pub fn logs_of(namespace: &Namespace, workload: &WorkloadId) -> String {
        format!("$NEX.FEED.{namespace}.logs.{workload}.*")
    }

    /// The logs of a namespace; of all namespaces for `system`.
    #[must_use]
    pub fn logs(namespace: &Namespace) -> String {
        if namespace.is_system() {
            "$NEX.FEED.*.logs.*.*".to_owned()
        } else {
            format!("$NEX.FEED.{namespace}.logs.*.*")
        }
    }

    /// The events of a namespace's workloads; all events for `system`.
    #[must_use]
    pub fn events(namespace: &Namespace) -> String {
        if namespace.is_system() {
            "$NEX.FEED.*.events.*".to_owned()
        } else {
            format!("$NEX.FEED.{namespace}.events.*")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_the_protocol_is_none() {
        for text in [
            "",
            "$NEX",
            "$NEX.SVC.tenant.control.INFO.x",
            "$NEX.SVC.tenant.control.PING",
            "$NEX.SVC.*.control.AUCTION",
            "$NEX.FEED.tenant.logs.wid.other",
            "$NEX.FEED.tenant.events.",
            "$NEX.FEED.*.events.WORKLOADSTARTED",
            "echo",
        ] {
            assert_eq!(Subject::parse(text), None, "{text}");
        }
    }
}
