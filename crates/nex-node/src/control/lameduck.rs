//! `LAMEDUCK`: no more work from now on; what runs goes on until the delay is over. With `cancel`
//! the node takes work again.

use std::{fmt::Write as _, time::Duration};

use nex_protocol::{
    ErrorCode, GoDuration,
    control::{LameduckRequest, LameduckResponse},
    event::Event,
};
use nexlet::Chain;
use tracing::info;

use super::answer::{Answer, Refusal, decode};
use crate::{lameduck, phase::LameduckError, shared::Shared};

/// The most that a lame duck may be told to wait: a year.
const MAX_DELAY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Silent where a tag does not match. A second order replaces the time of the first.
pub(super) async fn set(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    let request: LameduckRequest = decode(body, "lameduck request")?;
    if shared.missing_tag(&request.tag).is_some() {
        return Ok(Answer::Silence);
    }
    let message = if request.cancel {
        resume(shared).await?
    } else {
        drain(shared, &request.delay).await?
    };
    Answer::json(&LameduckResponse {
        message,
        success: true,
    })
}

async fn drain(shared: &Shared, delay: &str) -> Result<String, Refusal> {
    let delay = GoDuration::parse_go(delay).map_err(|error| bad_delay(&error))?;
    if delay.0 > MAX_DELAY {
        return Err(bad_delay(&"the delay is longer than a year"));
    }
    let _order = shared.lameduck_order.lock().await;
    let ends = shared.set_lameduck(delay.0).map_err(refusal)?;
    let kept = lameduck::keep(shared, Some(ends)).await;
    info!(%ends, "node entered lameduck mode");
    let event = Event::NodeLameduckSet(shared.id.clone(), ends);
    shared.publish_event(event).await;
    let shown = ends.strftime("%Y-%m-%d %H:%M:%S UTC");
    let mut message = format!("node entering lameduck mode, will shutdown at {shown}");
    if let Err(error) = kept {
        write!(
            message,
            "; killed before, it comes back taking work: {}",
            Chain(&error)
        )
        .ok();
    }
    Ok(message)
}

async fn resume(shared: &Shared) -> Result<String, Refusal> {
    let _order = shared.lameduck_order.lock().await;
    shared.may_clear_lameduck().map_err(refusal)?;
    // First: a node that took work, and was killed, would forget it with what was drained.
    lameduck::keep(shared, None).await.map_err(|error| {
        let text = "failed to keep that the node takes work again: it stays a lame duck";
        Refusal::internal(text, &error)
    })?;
    shared.clear_lameduck().map_err(refusal)?;
    info!("node left lameduck mode, it takes work again");
    let event = Event::NodeLameduckCleared(shared.id.clone());
    shared.publish_event(event).await;
    Ok("node left lameduck mode, it takes work again".to_owned())
}

fn refusal(error: LameduckError) -> Refusal {
    let code = match error {
        LameduckError::Stopping => ErrorCode::Busy,
        LameduckError::NoLameduck => ErrorCode::BadRequest,
    };
    Refusal::new(code, error.to_string())
}

fn bad_delay(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::bad_request("failed to parse lameduck delay").detail(error.to_string())
}
