//! `LAMEDUCK`: no more work from now on; what runs goes on until the delay is over.

use nex_protocol::{
    GoDuration,
    control::{LameduckRequest, LameduckResponse},
    event::Event,
};
use tracing::info;

use super::answer::{Answer, Refusal, decode};
use crate::shared::Shared;

/// Silent where a tag does not match. A second order replaces the time of the first.
pub(super) async fn set(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    let request: LameduckRequest = decode(body, "lameduck request")?;
    if shared.missing_tag(&request.tag).is_some() {
        return Ok(Answer::Silence);
    }
    let delay: GoDuration = request.delay.parse().map_err(|error| bad_delay(&error))?;
    let Some(ends) = shared.set_lameduck(delay.0) else {
        return Err(bad_delay(&"the delay is longer than a year"));
    };
    info!(%ends, "node entered lameduck mode");
    let event = Event::NodeLameduckSet(shared.id.clone(), ends);
    shared.publish_event(event).await;
    let shown = ends.strftime("%Y-%m-%d %H:%M:%S UTC");
    Answer::json(&LameduckResponse {
        message: format!("node entering lameduck mode, will shutdown at {shown}"),
        success: true,
    })
}

fn bad_delay(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::bad_request("failed to parse lameduck delay").detail(error.to_string())
}
