//! What each part of a nexus may publish and subscribe to.

use nex_protocol::{
    ARTIFACT_BUCKET, FEEDS_STREAM, Namespace, NexletId, NexusName, NodeId, Subject,
    dead_letter::{DEAD_LETTER_STREAM, DEAD_LETTERS, REPLAYS},
    subject::pattern,
};
use serde::Serialize;

/// The inboxes of a NATS client, where the answers to its requests come.
const INBOXES: &str = "_INBOX.>";
/// What nats-server says about itself and its accounts.
const SERVER: &str = "$SYS.>";
/// Requests to JetStream. Whoever hears them can answer in its place.
const JETSTREAM: &str = "$JS.API.>";
/// Everything of Nex.
const NEX: &str = "$NEX.>";

/// Subjects that are allowed, and of these the ones that are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Allow {
    /// What is allowed; everything where it is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What is not, also where `allow` has it. There are no exceptions to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl Allow {
    /// These subjects and no others.
    pub fn only<S: Into<String>>(subjects: impl IntoIterator<Item = S>) -> Self {
        Self {
            allow: subjects.into_iter().map(Into::into).collect(),
            deny: Vec::new(),
        }
    }

    /// Every subject but these.
    pub fn all_but<S: Into<String>>(subjects: impl IntoIterator<Item = S>) -> Self {
        Self {
            allow: vec![">".to_owned()],
            deny: subjects.into_iter().map(Into::into).collect(),
        }
    }
}

/// What a user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// What it may publish to.
    pub publish: Allow,
    /// What it may subscribe to.
    pub subscribe: Allow,
    /// Whether it may answer each request that it gets with one message, wherever the answer goes.
    pub response: bool,
}

impl Permissions {
    /// What a nexlet needs to register, and nothing else. One may not answer requests with it: Go's
    /// has that, and no nexlet uses it.
    #[must_use]
    pub fn registration(node: &NodeId, nexlet: &NexletId) -> Self {
        let register = Subject::Register(node.clone(), nexlet.clone()).to_string();
        Self {
            publish: Allow::only([register]),
            subscribe: Allow::only([INBOXES]),
            response: false,
        }
    }

    /// What a registered nexlet needs: those of Go, and what Go's forget (logs, metrics and events
    /// of workloads, the nexlet's own events), to read artifacts from object stores, and to keep
    /// messages that functions fail on.
    #[must_use]
    pub fn nexlet(node: &NodeId, nexus: &NexusName, nexlet: &NexletId) -> Self {
        let mut publish = vec![
            Subject::NexletHeartbeat(node.clone(), nexlet.clone()).to_string(),
            "$NEX.FEED.*.logs.*.*".to_owned(),
            "$NEX.FEED.*.metrics.*".to_owned(),
            "$NEX.FEED.*.events.*".to_owned(),
            "$NEX.DLQ.*.*".to_owned(),
            format!("$JS.API.STREAM.CREATE.{DEAD_LETTER_STREAM}"),
            // Where it asks whether replicas run elsewhere, before it removes what they share.
            REPLAYS.to_owned(),
            INBOXES.to_owned(),
        ];
        publish.extend(READ_ANY_STREAM.map(str::to_owned));
        let subscribe = [
            pattern::start_workload(node, nexlet),
            Subject::NexletPing(node.clone(), nexlet.clone()).to_string(),
            pattern::stop_workload(node),
            pattern::get_workload(node),
            Subject::QueryWorkloads(node.clone()).to_string(),
            Subject::NexletPingAll(node.clone()).to_string(),
            Subject::NexletLameduck(node.clone()).to_string(),
            // Where it sees that its node does not know it any more.
            Subject::NodeHeartbeat(node.clone()).to_string(),
            pattern::ping_workload(nexus),
            format!("$NEX.FEED.{nexlet}.events"),
            // Where its functions get dead letters again.
            REPLAYS.to_owned(),
            "$SRV.>".to_owned(),
            INBOXES.to_owned(),
        ];
        Self {
            publish: Allow::only(publish),
            subscribe: Allow::only(subscribe),
            response: true,
        }
    }

    /// What a workload of Go Nex has, and to read artifacts, for Go's nexlets fetch with it.
    #[must_use]
    pub fn narrow_workload(namespace: &Namespace) -> Self {
        let mut publish = vec![INBOXES.to_owned()];
        publish.extend(read_bucket(ARTIFACT_BUCKET));
        let logs = format!("$NEX.FEED.{namespace}.logs.>");
        Self {
            publish: Allow::only(publish),
            subscribe: Allow {
                allow: vec![logs, INBOXES.to_owned()],
                deny: vec![pattern::PRIVATE_INBOXES.to_owned()],
            },
            response: true,
        }
    }

    /// Everything but the server's own subjects, all of Nex, and the administration of Nex's
    /// streams. Feeds are in it: a denial has no exceptions, and nexlets publish them.
    ///
    /// It may not answer where it may not publish: whoever sends it a request chooses the subject
    /// of the answer, and would have it write to a node in the sender's place.
    #[must_use]
    pub fn open_workload() -> Self {
        let mut publish = vec![SERVER.to_owned(), NEX.to_owned()];
        publish.extend(touch_stream(FEEDS_STREAM));
        publish.extend(touch_stream(DEAD_LETTER_STREAM));
        publish.extend(change_bucket(ARTIFACT_BUCKET));
        Self {
            publish: Allow::all_but(publish),
            subscribe: Allow::all_but([SERVER, NEX, JETSTREAM, pattern::PRIVATE_INBOXES]),
            response: false,
        }
    }

    /// What a client without credentials may do where that is on: all that a person tries on the
    /// own machine. Not to act as a node or a nexlet towards the other or towards clients, to hear
    /// what is asked of nodes, to make up logs and events, or to change Nex's streams.
    #[must_use]
    pub fn anonymous() -> Self {
        let mut publish = vec![
            SERVER.to_owned(),
            pattern::NEXLET_TRAFFIC.to_owned(),
            pattern::NODE_HEARTBEATS.to_owned(),
            pattern::FEEDS.to_owned(),
            DEAD_LETTERS.to_owned(),
        ];
        publish.extend(change_stream(FEEDS_STREAM));
        // A person may drop a dead letter.
        let delete = format!("$JS.API.STREAM.MSG.DELETE.{DEAD_LETTER_STREAM}");
        let change = change_stream(DEAD_LETTER_STREAM).into_iter();
        publish.extend(change.filter(|subject| *subject != delete));
        publish.extend(change_bucket(ARTIFACT_BUCKET));
        Self {
            publish: Allow::all_but(publish),
            subscribe: Allow::all_but([
                SERVER,
                pattern::SERVICES,
                JETSTREAM,
                pattern::PRIVATE_INBOXES,
            ]),
            response: false,
        }
    }

    /// What the node and its owner may do: everything in the account.
    #[must_use]
    pub fn full() -> Self {
        Self {
            publish: Allow::all_but([SERVER]),
            subscribe: Allow::all_but([SERVER]),
            response: false,
        }
    }
}

/// What a client publishes to read streams and object stores, whatever their names.
const READ_ANY_STREAM: [&str; 10] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.DIRECT.GET.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DELETE.>",
    "$JS.API.CONSUMER.INFO.>",
    "$JS.FC.>",
    "$JS.ACK.>",
];

/// What a client publishes to read one object store.
fn read_bucket(bucket: &str) -> [String; 10] {
    [
        "$JS.API.INFO".to_owned(),
        format!("$JS.API.STREAM.INFO.OBJ_{bucket}"),
        "$JS.API.STREAM.NAMES".to_owned(),
        format!("$JS.API.STREAM.MSG.GET.OBJ_{bucket}"),
        format!("$JS.API.DIRECT.GET.OBJ_{bucket}.>"),
        format!("$JS.API.CONSUMER.CREATE.OBJ_{bucket}.>"),
        format!("$JS.API.CONSUMER.DELETE.OBJ_{bucket}.>"),
        format!("$JS.API.CONSUMER.INFO.OBJ_{bucket}.>"),
        format!("$JS.FC.OBJ_{bucket}.>"),
        format!("$JS.ACK.OBJ_{bucket}.>"),
    ]
}

/// All of JetStream's API that names a stream: reading it, changing it, and its consumers.
fn touch_stream(stream: &str) -> [String; 7] {
    [
        format!("$JS.API.STREAM.*.{stream}"),
        format!("$JS.API.STREAM.*.*.{stream}"),
        format!("$JS.API.CONSUMER.*.{stream}"),
        format!("$JS.API.CONSUMER.*.{stream}.>"),
        format!("$JS.API.CONSUMER.*.*.{stream}.>"),
        format!("$JS.API.DIRECT.GET.{stream}"),
        format!("$JS.API.DIRECT.GET.{stream}.>"),
    ]
}

/// JetStream's API that changes a stream or what is in it.
fn change_stream(stream: &str) -> [String; 6] {
    [
        format!("$JS.API.STREAM.CREATE.{stream}"),
        format!("$JS.API.STREAM.UPDATE.{stream}"),
        format!("$JS.API.STREAM.DELETE.{stream}"),
        format!("$JS.API.STREAM.PURGE.{stream}"),
        format!("$JS.API.STREAM.RESTORE.{stream}"),
        format!("$JS.API.STREAM.MSG.DELETE.{stream}"),
    ]
}

/// [`change_stream`] for an object store, and to write objects.
fn change_bucket(bucket: &str) -> impl Iterator<Item = String> {
    let stream = format!("OBJ_{bucket}");
    change_stream(&stream)
        .into_iter()
        .chain([format!("$O.{bucket}.>")])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        NodeId::new(format!("N{}", "A".repeat(55))).unwrap()
    }

    fn text(permissions: &Permissions) -> String {
        let mut lines = String::new();
        for (name, list) in [
            ("pub +", &permissions.publish.allow),
            ("pub -", &permissions.publish.deny),
            ("sub +", &permissions.subscribe.allow),
            ("sub -", &permissions.subscribe.deny),
        ] {
            for subject in list {
                lines += &format!("{name} {}\n", subject.replace(node().as_str(), "<node>"));
            }
        }
        lines + &format!("response {}\n", permissions.response)
    }

    #[test]
    fn a_registration_can_only_register() {
        let permissions = Permissions::registration(&node(), &NexletId::new("nexlet").unwrap());

        assert_eq!(
            text(&permissions),
            "pub + $NEX.SVC.<node>.agent.REGISTER.nexlet
sub + _INBOX.>
response false
"
        );
    }

    #[test]
    fn a_nexlet_serves_its_node_and_reads_artifacts() {
        let nexus = NexusName::new("nexus").unwrap();
        let permissions = Permissions::nexlet(&node(), &nexus, &NexletId::new("nexlet").unwrap());

        assert_eq!(
            text(&permissions),
            "pub + $NEX.SVC.<node>.agent.HEARTBEAT.nexlet
pub + $NEX.FEED.*.logs.*.*
pub + $NEX.FEED.*.metrics.*
pub + $NEX.FEED.*.events.*
pub + $NEX.DLQ.*.*
pub + $JS.API.STREAM.CREATE.NEX_DLQ
pub + $NEX.SVC.*.function.REPLAY.*
pub + _INBOX.>
pub + $JS.API.INFO
pub + $JS.API.STREAM.INFO.*
pub + $JS.API.STREAM.NAMES
pub + $JS.API.STREAM.MSG.GET.*
pub + $JS.API.DIRECT.GET.>
pub + $JS.API.CONSUMER.CREATE.>
pub + $JS.API.CONSUMER.DELETE.>
pub + $JS.API.CONSUMER.INFO.>
pub + $JS.FC.>
pub + $JS.ACK.>
sub + $NEX.SVC.<node>.agent.nexlet.STARTWORKLOAD.*
sub + $NEX.SVC.<node>.agent.nexlet.PING
sub + $NEX.SVC.<node>.agent.STOPWORKLOAD.*
sub + $NEX.SVC.<node>.agent.GETWORKLOAD.*
sub + $NEX.SVC.<node>.agent.QUERYWORKLOADS
sub + $NEX.SVC.<node>.agent.PING
sub + $NEX.SVC.<node>.agent.SETLAMEDUCK
sub + $NEX.SVC.system.control.HEARTBEAT.<node>
sub + $NEX.SVC.nexus.agent.PINGWORKLOAD.*
sub + $NEX.FEED.nexlet.events
sub + $NEX.SVC.*.function.REPLAY.*
sub + $SRV.>
sub + _INBOX.>
response true
"
        );
    }

    #[test]
    fn a_narrow_workload_reads_its_namespaces_logs_and_artifacts() {
        let permissions = Permissions::narrow_workload(&Namespace::new("tenant").unwrap());

        assert_eq!(
            text(&permissions),
            "pub + _INBOX.>
pub + $JS.API.INFO
pub + $JS.API.STREAM.INFO.OBJ_NEXCLIFILES
pub + $JS.API.STREAM.NAMES
pub + $JS.API.STREAM.MSG.GET.OBJ_NEXCLIFILES
pub + $JS.API.DIRECT.GET.OBJ_NEXCLIFILES.>
pub + $JS.API.CONSUMER.CREATE.OBJ_NEXCLIFILES.>
pub + $JS.API.CONSUMER.DELETE.OBJ_NEXCLIFILES.>
pub + $JS.API.CONSUMER.INFO.OBJ_NEXCLIFILES.>
pub + $JS.FC.OBJ_NEXCLIFILES.>
pub + $JS.ACK.OBJ_NEXCLIFILES.>
sub + $NEX.FEED.tenant.logs.>
sub + _INBOX.>
sub - _INBOX.NEX.>
response true
"
        );
    }

    #[test]
    fn an_open_workload_is_kept_from_nex_and_from_the_server() {
        assert_eq!(
            text(&Permissions::open_workload()),
            "pub + >
pub - $SYS.>
pub - $NEX.>
pub - $JS.API.STREAM.*.NEX_FEEDS
pub - $JS.API.STREAM.*.*.NEX_FEEDS
pub - $JS.API.CONSUMER.*.NEX_FEEDS
pub - $JS.API.CONSUMER.*.NEX_FEEDS.>
pub - $JS.API.CONSUMER.*.*.NEX_FEEDS.>
pub - $JS.API.DIRECT.GET.NEX_FEEDS
pub - $JS.API.DIRECT.GET.NEX_FEEDS.>
pub - $JS.API.STREAM.*.NEX_DLQ
pub - $JS.API.STREAM.*.*.NEX_DLQ
pub - $JS.API.CONSUMER.*.NEX_DLQ
pub - $JS.API.CONSUMER.*.NEX_DLQ.>
pub - $JS.API.CONSUMER.*.*.NEX_DLQ.>
pub - $JS.API.DIRECT.GET.NEX_DLQ
pub - $JS.API.DIRECT.GET.NEX_DLQ.>
pub - $JS.API.STREAM.CREATE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.UPDATE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.DELETE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.PURGE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.RESTORE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.MSG.DELETE.OBJ_NEXCLIFILES
pub - $O.NEXCLIFILES.>
sub + >
sub - $SYS.>
sub - $NEX.>
sub - $JS.API.>
sub - _INBOX.NEX.>
response false
"
        );
    }

    #[test]
    fn who_is_anonymous_is_no_node_and_no_nexlet() {
        assert_eq!(
            text(&Permissions::anonymous()),
            "pub + >
pub - $SYS.>
pub - $NEX.SVC.*.agent.>
pub - $NEX.SVC.system.control.HEARTBEAT.*
pub - $NEX.FEED.>
pub - $NEX.DLQ.>
pub - $JS.API.STREAM.CREATE.NEX_FEEDS
pub - $JS.API.STREAM.UPDATE.NEX_FEEDS
pub - $JS.API.STREAM.DELETE.NEX_FEEDS
pub - $JS.API.STREAM.PURGE.NEX_FEEDS
pub - $JS.API.STREAM.RESTORE.NEX_FEEDS
pub - $JS.API.STREAM.MSG.DELETE.NEX_FEEDS
pub - $JS.API.STREAM.CREATE.NEX_DLQ
pub - $JS.API.STREAM.UPDATE.NEX_DLQ
pub - $JS.API.STREAM.DELETE.NEX_DLQ
pub - $JS.API.STREAM.PURGE.NEX_DLQ
pub - $JS.API.STREAM.RESTORE.NEX_DLQ
pub - $JS.API.STREAM.CREATE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.UPDATE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.DELETE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.PURGE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.RESTORE.OBJ_NEXCLIFILES
pub - $JS.API.STREAM.MSG.DELETE.OBJ_NEXCLIFILES
pub - $O.NEXCLIFILES.>
sub + >
sub - $SYS.>
sub - $NEX.SVC.>
sub - $JS.API.>
sub - _INBOX.NEX.>
response false
"
        );
    }
}
