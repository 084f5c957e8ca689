//! Whether a start request fits what bidders want, before it is sent to one.

use std::collections::BTreeMap;

use nex_protocol::control::Bid;
use nex_schema::{Complaint, Complaints, Schema};
use serde_json::Value;
use tracing::debug;

use crate::rank::NamedBid;

/// Which bidders take a start request. Where that is not known yet, all do.
///
/// A schema that cannot be used here refuses nothing: its node will check.
pub(crate) struct Fit {
    /// The same for all, where it needs no schema.
    for_all: Option<Result<(), Complaints>>,
    /// By schema: most often all nexlets of a type have the same one.
    verdicts: BTreeMap<String, Result<(), Complaints>>,
}

impl Fit {
    /// Checks the request against the schemas of these bids.
    pub(crate) fn of(bids: &[NamedBid], run_request: Option<&str>) -> Self {
        let mut verdicts = BTreeMap::new();
        let for_all = match run_request.map(serde_json::from_str::<Value>) {
            None => Some(Ok(())),
            Some(Err(error)) => {
                let complaint = Complaint::new("", format!("not JSON: {error}"));
                Some(Err(complaint.into()))
            }
            Some(Ok(run_request)) => {
                for (_, bid) in bids {
                    let schema = &bid.start_request_schema;
                    if !verdicts.contains_key(schema) {
                        verdicts.insert(schema.clone(), check(schema, &run_request));
                    }
                }
                None
            }
        };
        Self { for_all, verdicts }
    }

    /// Whether the nexlet of one of these bids takes the request.
    pub(crate) fn verdict(&self, bid: &Bid) -> Result<(), Complaints> {
        match &self.for_all {
            Some(verdict) => verdict.clone(),
            None => self
                .verdicts
                .get(&bid.start_request_schema)
                .cloned()
                .unwrap_or(Ok(())),
        }
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
    use std::sync::Arc;

    use nex_protocol::{BidId, control::Bid};

    use super::*;

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
        let fit = Fit::of(&[(None, Arc::new(bid.clone()))], Some(run_request));
        let verdict = fit.verdict(&bid);
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
