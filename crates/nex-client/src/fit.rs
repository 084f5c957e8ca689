//! Whether a start request fits what bidders want, before it is sent to one.

use std::collections::BTreeMap;

use nex_protocol::{NodeId, control::Bid};
use nex_schema::{Complaint, Complaints, Schema};
use serde_json::Value;
use tracing::debug;

/// The bids whose nexlet takes such a start request, in their order.
///
/// A schema that cannot be used here refuses nothing: its node will check.
///
/// # Errors
/// When none does: what the first one's schema says.
pub(crate) fn fitting(
    bids: Vec<(Option<NodeId>, Bid)>,
    run_request: &str,
) -> Result<Vec<(Option<NodeId>, Bid)>, Complaints> {
    let run_request: Value = serde_json::from_str(run_request)
        .map_err(|error| Complaint::new("", format!("not JSON: {error}")))?;
    // Most often all nexlets of a type have the same one.
    let mut verdicts: BTreeMap<String, Result<(), Complaints>> = BTreeMap::new();
    let mut first = None;
    let mut fitting = Vec::with_capacity(bids.len());
    for (node, bid) in bids {
        let verdict = verdicts
            .entry(bid.start_request_schema.clone())
            .or_insert_with_key(|schema| check(schema, &run_request));
        match verdict {
            Ok(()) => fitting.push((node, bid)),
            Err(complaints) => {
                first.get_or_insert_with(|| complaints.clone());
            }
        }
    }
    match first {
        Some(complaints) if fitting.is_empty() => Err(complaints),
        _ => Ok(fitting),
    }
}

fn check(schema: &str, run_request: &Value) -> Result<(), Complaints> {
    match Schema::compile(schema) {
        Ok(schema) => schema.check(run_request),
        Err(error) => {
            debug!(%error, "a bid has a schema that cannot be used");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use nex_protocol::BidId;

    use super::*;

    fn bid(id: &str, schema: &str) -> (Option<NodeId>, Bid) {
        let bid = Bid {
            bidder_id: BidId::new(id).unwrap(),
            start_request_schema: schema.into(),
            supported_lifecycles: Vec::new(),
            xkey: String::new(),
            load: None,
        };
        (None, bid)
    }

    fn fit(schemas: &[(&str, &str)], run_request: &str) -> Result<Vec<String>, String> {
        let bids = schemas.iter().map(|(id, schema)| bid(id, schema)).collect();
        match fitting(bids, run_request) {
            Ok(bids) => Ok(bids.iter().map(|(_, b)| b.bidder_id.to_string()).collect()),
            Err(complaints) => Err(complaints.to_string()),
        }
    }

    const URI: &str = r#"{"required":["uri"]}"#;
    const IMAGE: &str = r#"{"required":["image"]}"#;

    #[test]
    fn who_does_not_take_it_is_left_out() {
        let bids = [("a", URI), ("b", IMAGE), ("c", URI)];
        assert_eq!(fit(&bids, r#"{"uri":""}"#).unwrap(), ["a", "c"]);
        assert_eq!(fit(&bids, r#"{"image":""}"#).unwrap(), ["b"]);
    }

    #[test]
    fn where_nobody_takes_it_the_best_bidder_says_why() {
        let error = fit(&[("a", URI), ("b", IMAGE)], "{}").unwrap_err();
        assert_eq!(error, "at `/`: missing key `uri`");
    }

    #[test]
    fn a_schema_that_is_none_refuses_nothing() {
        assert_eq!(fit(&[("a", ""), ("b", "{")], "{}").unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_json_fits_nobody() {
        let error = fit(&[("a", "{}")], "{").unwrap_err();
        assert!(error.starts_with("at `/`: not JSON: "), "{error}");
    }
}
