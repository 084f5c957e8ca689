//! `AUCTION`: a bid, or silence; reasons only for who asks for them.

use std::time::Instant;

use nex_protocol::{
    ErrorCode,
    control::{AuctionRequest, Bid, Declined, Reason},
};

use super::answer::{Answer, Refusal, decode};
use crate::{nexlet::PickError, shared::Shared};

pub(super) fn bid(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    let request: AuctionRequest = decode(body, "auction request")?;
    match offer(shared, &request) {
        Ok(bid) => Answer::json(&bid),
        Err(declined) if request.explain => Answer::json(&Declined { declined }),
        // A Go client takes any reply for a bid.
        Err(_) => Ok(Answer::Silence),
    }
}

fn offer(shared: &Shared, request: &AuctionRequest) -> Result<Bid, Reason> {
    let workload_type = &request.agent_type;
    let picked = shared
        .registry
        .pick(Instant::now(), workload_type, request.lifecycle);
    // A type that nobody here runs is told first: it decides whether another type is tried.
    if let Err(PickError::NoType) = picked {
        return Err(no_type(shared, workload_type));
    }
    // Before the tags: those of a start ask for a node that is no lame duck, and this says it better.
    if !shared.phase().takes_work() {
        return Err(Reason {
            code: ErrorCode::Busy.number(),
            text: format!("the node is in state `{}`", shared.phase().state()),
        });
    }
    if let Some((name, value)) = shared.missing_tag(&request.tags) {
        return Err(Reason {
            code: ErrorCode::NotFound.number(),
            text: format!("the node has no tag `{name}={value}`"),
        });
    }
    let nexlet = picked.map_err(|error| reason(shared, error, request))?;
    Ok(Bid {
        bidder_id: shared.place_bid(workload_type),
        start_request_schema: nexlet.request.start_request_schema.clone(),
        supported_lifecycles: nexlet.request.supported_lifecycles.clone(),
        xkey: nexlet.request.public_xkey.clone(),
        load: Some(shared.load()),
        node_id: Some(shared.id.clone()),
    })
}

fn no_type(shared: &Shared, workload_type: &str) -> Reason {
    let types = shared.registry.types(Instant::now());
    let text = if types.is_empty() {
        format!("no nexlet on the node runs type `{workload_type}`: it has none yet")
    } else {
        let types: Vec<String> = types.into_iter().collect();
        let types = types.join(", ");
        format!("no nexlet on the node runs type `{workload_type}`: it runs {types}")
    };
    Reason {
        code: ErrorCode::NotFound.number(),
        text,
    }
}

fn reason(shared: &Shared, error: PickError, request: &AuctionRequest) -> Reason {
    let workload_type = &request.agent_type;
    let (code, text) = match error {
        PickError::NoType => return no_type(shared, workload_type),
        PickError::Unhealthy => (
            ErrorCode::Busy,
            format!("no nexlet of type `{workload_type}` on the node is healthy"),
        ),
        PickError::Full => (
            ErrorCode::Busy,
            format!("the nexlet of type `{workload_type}` on the node is full"),
        ),
        PickError::Lifecycle => {
            let lifecycle = request.lifecycle.map_or("", |lifecycle| lifecycle.as_str());
            let text = format!(
                "the nexlet of type `{workload_type}` does not run lifecycle `{lifecycle}`"
            );
            (ErrorCode::BadRequest, text)
        }
    };
    Reason {
        code: code.number(),
        text,
    }
}
