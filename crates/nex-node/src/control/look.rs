//! Looks at the node: tags, ping, info, and the id of a nexlet.

use std::time::Instant;

use nex_protocol::{
    GoDuration,
    control::{NodeInfoResponse, NodePingRequest, NodePingResponse},
};

use super::answer::{Answer, Refusal, decode};
use crate::shared::Shared;

/// `PTAGS`: any body is fine.
pub(super) fn tags(shared: &Shared) -> Result<Answer, Refusal> {
    Answer::json(&shared.tags())
}

/// `PING`: silent where a tag of the filter does not match.
pub(super) fn ping(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    let request: Option<NodePingRequest> = decode(body, "ping request")?;
    let request = request.unwrap_or_default();
    if shared.missing_tag(&request.filter).is_some() {
        return Ok(Answer::Silence);
    }
    Answer::json(&NodePingResponse {
        agent_count: shared.registry.count() as u64,
        node_id: shared.id.clone(),
        start_time: shared.start_time,
        state: shared.phase().state(),
        tags: shared.tags(),
        version: shared.version.clone(),
        xkey: shared.xkey.clone(),
        peers: Some(shared.peers_told(request.tellers)),
    })
}

/// `INFO`: any body is fine.
pub(super) fn info(shared: &Shared) -> Result<Answer, Refusal> {
    Answer::json(&NodeInfoResponse {
        node_agent_summaries: shared.registry.summaries(Instant::now()),
        node_id: shared.id.clone(),
        tags: shared.tags(),
        uptime: GoDuration(shared.started.elapsed()).to_string(),
        version: shared.version.clone(),
        xkey: shared.xkey.clone(),
    })
}

/// `AGENTID`: a name in, an id out, both as they are. Silent where nobody has that name.
pub(super) fn nexlet_id(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    if body.is_empty() {
        return Err(Refusal::bad_request("agent name is required"));
    }
    let name = std::str::from_utf8(body).ok();
    let id = name.and_then(|name| shared.registry.id_by_name(name));
    Ok(id.map_or(Answer::Silence, |id| {
        Answer::Body(String::from(id).into_bytes().into())
    }))
}
