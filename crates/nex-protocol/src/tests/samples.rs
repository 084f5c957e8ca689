//! One of each message, with all its fields, beside the keys of the reference.

mod control;
mod nexlets;
mod rest;
mod workloads;

use jiff::Timestamp;

use super::messages::Message;
use crate::{Namespace, NexletId, NodeId, Tags, WorkloadId};

/// Every message.
pub(super) fn all() -> Vec<Message> {
    let mut all = control::all();
    all.extend(workloads::all());
    all.extend(nexlets::all());
    all.extend(rest::all());
    all
}

fn node() -> NodeId {
    NodeId::new("NAKSYWWFGU7WFJMMVE4DNNTPJUY7MWCUFGTZBWNPLTXFEJ3YNF7VNVXP").unwrap()
}

fn nexlet() -> NexletId {
    NexletId::new("0uiY97LTUBRG6sb4yR1thf").unwrap()
}

fn workload() -> WorkloadId {
    WorkloadId::new("0uiY97LTUBRG6sb4yR1to3").unwrap()
}

fn namespace() -> Namespace {
    Namespace::new("tenant").unwrap()
}

fn xkey() -> String {
    "XAQHGDRHCYYPXRPGN4QMFGVPFCDTJMZLXMWQXSEYFQSYRR4MNH6HFHPW".to_owned()
}

fn tags() -> Tags {
    Tags::from([("region".to_owned(), "lab".to_owned())])
}

fn time() -> Timestamp {
    "2026-01-02T03:04:05.123456789Z".parse().unwrap()
}
