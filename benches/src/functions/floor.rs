//! The floor: a responder on bare async-nats, in a queue group, that sends the payload back with the
//! same two headers.

use anyhow::bail;
use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use nex_protocol::{
    WorkloadId,
    function::{NAMESPACE_HEADER, WORKLOAD_HEADER},
    ids::unique,
};

use crate::control::child::{Child, ready, told_to_end};

/// Where it answers.
pub(super) const SUBJECT: &str = "floor.echo";

/// Starts it as a process of its own.
pub(super) fn start(url: &str) -> anyhow::Result<Child> {
    Child::start("echo", &[url.to_owned()])
}

/// What the child does.
pub(crate) fn serve(args: &[&str]) -> anyhow::Result<()> {
    let [url] = args else {
        bail!("the echo wants a url");
    };
    super::load::block_on(async {
        let client = async_nats::connect(*url).await?;
        let mut headers = HeaderMap::new();
        headers.insert(WORKLOAD_HEADER, WorkloadId::new(unique())?.as_str());
        headers.insert(NAMESPACE_HEADER, "default");
        let mut requests = client.queue_subscribe(SUBJECT, "floor".to_owned()).await?;
        nex_nats::barrier(&client).await?;
        ready();
        let answering = async {
            while let Some(request) = requests.next().await {
                let Some(reply) = request.reply else { continue };
                let sent = client.publish_with_headers(reply, headers.clone(), request.payload);
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
