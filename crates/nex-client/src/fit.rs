//! Whether a start request fits what bidders want, before it is sent to one.

use std::collections::BTreeMap;

use nex_schema::{Complaint, Complaints, Schema};
use serde_json::Value;
use tracing::debug;

use crate::rank::{NamedBid, Suits};

/// Says of each bid, in their order, whether its nexlet takes such a start request. Where that is
/// not known yet, all do.
///
/// A schema that cannot be used here refuses nothing: its node will check.
pub(crate) fn fitting(
    bids: Vec<(Suits, NamedBid)>,
    run_request: Option<&str>,
) -> impl Iterator<Item = ((Suits, NamedBid), Result<(), Complaints>)> {
    let run_request = run_request.map(|text| {
        serde_json::from_str::<Value>(text)
            .map_err(|error| Complaints::from(Complaint::new("", format!("not JSON: {error}"))))
    });
    // Most often all nexlets of a type have the same one.
    let mut verdicts: BTreeMap<String, Result<(), Complaints>> = BTreeMap::new();
    bids.into_iter().map(move |bid| {
        let verdict = match &run_request {
            None => Ok(()),
            Some(Err(complaints)) => Err(complaints.clone()),
            Some(Ok(run_request)) => {
                let schema = &bid.1.1.start_request_schema;
                match verdicts.get(schema) {
                    Some(verdict) => verdict.clone(),
                    None => {
                        let verdict = check(schema, run_request);
                        verdicts.insert(schema.clone(), verdict.clone());
                        verdict
                    }
                }
            }
        };
        (bid, verdict)
    })
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
    use std::hash::RandomState;

    use std::sync::Arc;

    use nex_protocol::{BidId, control::Bid};

    use super::*;
    use crate::{rank::ranked, rounds::Given};

    /// Whether a bid with that schema fits.
    fn fit(schema: &str, run_request: &str) -> Result<(), String> {
        let bid = Bid {
            bidder_id: BidId::new("a").unwrap(),
            start_request_schema: schema.into(),
            supported_lifecycles: Vec::new(),
            xkey: String::new(),
            load: None,
            node_id: None,
        };
        let bids = ranked(
            vec![(None, Arc::new(bid))],
            &Given::new(),
            &RandomState::new(),
        );
        let mut verdicts = fitting(bids, Some(run_request)).map(|(_, verdict)| verdict);
        let verdict = verdicts.next().unwrap();
        verdict.map_err(|complaints| complaints.to_string())
    }

    const URI: &str = r#"{"required":["uri"]}"#;

    #[test]
    fn who_does_not_take_it_says_why() {
        assert_eq!(fit(URI, r#"{"uri":""}"#), Ok(()));
        let error = fit(URI, "{}").unwrap_err();
        assert_eq!(error, "at `/`: missing key `uri`");
    }

    #[test]
    fn a_schema_that_is_none_refuses_nothing() {
        assert_eq!(fit("", "{}"), Ok(()));
        assert_eq!(fit("{", "{}"), Ok(()));
    }

    #[test]
    fn what_is_no_json_fits_nobody() {
        let error = fit("{}", "{").unwrap_err();
        assert!(error.starts_with("at `/`: not JSON: "), "{error}");
    }
}
