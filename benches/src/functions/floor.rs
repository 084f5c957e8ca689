//! The floor: a responder on bare async-nats, in a queue group, that sends the payload back with the
//! same two headers; also one that has a guest in wasmtime make the reply, on the thread that reads.

use std::fs;

use anyhow::bail;
use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use nex_protocol::{
    WorkloadId,
    function::{NAMESPACE_HEADER, WORKLOAD_HEADER},
    ids::unique,
};

use super::alone::Guest;
use crate::control::child::{Child, ready, told_to_end};

/// Where it answers.
pub(super) const SUBJECT: &str = "floor.echo";

/// Where the one with a guest does.
pub(super) const GUEST_SUBJECT: &str = "floor.guest";

/// Starts it as a process of its own.
pub(super) fn start(url: &str) -> anyhow::Result<Child> {
    Child::start("echo", &[url.to_owned()])
}

/// Starts the one with the guest in this file.
pub(super) fn start_guest(url: &str, file: &str) -> anyhow::Result<Child> {
    Child::start("echo", &[url.to_owned(), file.to_owned()])
}

/// What the child does.
pub(crate) fn serve(args: &[&str]) -> anyhow::Result<()> {
    let (url, guest) = match args {
        [url] => (url, None),
        [url, file] => (url, Some(Guest::new(&fs::read(file)?)?)),
        _ => bail!("the echo wants a url, and a guest if any"),
    };
    let subject = guest.as_ref().map_or(SUBJECT, |_| GUEST_SUBJECT);
    super::load::block_on(async {
        let client = async_nats::connect(*url).await?;
        let mut headers = HeaderMap::new();
        headers.insert(WORKLOAD_HEADER, WorkloadId::new(unique())?.as_str());
        headers.insert(NAMESPACE_HEADER, "default");
        let mut requests = client.queue_subscribe(subject, "floor".to_owned()).await?;
        nex_nats::barrier(&client).await?;
        ready();
        let answering = async {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                let result = match &guest {
                    None => request.payload,
                    Some(guest) => guest.call(&request.payload)?.into(),
                };
                let sent = client.publish_with_headers(reply, headers.clone(), result);
                sent.await?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            answered = answering => answered,
            () = told_to_end() => Ok(()),
        }
    })
}
