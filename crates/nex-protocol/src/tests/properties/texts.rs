//! Durations, ids, header values, triggers and queue groups.

use std::{str::FromStr, time::Duration};

use proptest::prelude::*;

use crate::{
    BidId, ErrorCode, GoDuration, Namespace, NexletId, NodeId, WorkloadId,
    error::header_value,
    function::{TriggerSubject, queue_group},
    tests::any,
};

/// Whether a text would be read as a subject by a NATS server, wildcards allowed.
fn is_subject(text: &str) -> bool {
    text.split('.').all(|token| {
        !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

proptest! {
    #[test]
    fn durations_read_back(duration in any::duration()) {
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }

    #[test]
    fn durations_are_the_sum_of_their_parts(
        hours in 0..9_999u64, minutes in 0..9_999u64, seconds in 0..9_999u64, millis in 0..9_999u64,
    ) {
        let text = format!("{hours}h{minutes}m{seconds}s{millis}ms");
        let wanted = Duration::from_secs(hours * 3600 + minutes * 60 + seconds)
            + Duration::from_millis(millis);
        prop_assert_eq!(GoDuration::from_str(&text).unwrap().0, wanted);
    }

    #[test]
    fn no_text_of_a_duration_panics(text in "[-+0-9.]{0,24}(ns|us|µs|ms|s|m|h|d)?[0-9.hms]{0,8}") {
        if let Ok(duration) = text.parse::<GoDuration>() {
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }

    #[test]
    fn what_is_taken_for_a_name_is_one_token(text in any::text()) {
        if let Ok(namespace) = Namespace::new(text.clone()) {
            prop_assert_eq!(namespace.as_str(), &text);
            prop_assert!(is_subject(&text) && !text.contains(['.', '*', '>']));
        }
    }

    #[test]
    fn ids_read_back(workload in any::workload(), nexlet in any::nexlet(), bid in any::bid_id()) {
        prop_assert_eq!(WorkloadId::new(workload.as_str()), Ok(workload.clone()));
        prop_assert_eq!(NexletId::new(nexlet.as_str()), Ok(nexlet.clone()));
        prop_assert_eq!(BidId::new(bid.as_str()), Ok(bid.clone()));
    }

    #[test]
    fn a_text_with_anything_else_in_it_is_no_id(
        before in "[A-Za-z0-9]{0,8}", wrong in r"[^A-Za-z0-9_-]", after in "[A-Za-z0-9]{0,8}",
    ) {
        let text = [before, wrong, after].concat();
        prop_assert!(WorkloadId::new(text).is_err());
    }

    #[test]
    fn a_node_knows_the_ids_that_it_made(node in any::node()) {
        let (workload, bid) = (WorkloadId::mint(&node), BidId::mint(&node));
        prop_assert!(workload.minted_by(&node) && bid.minted_by(&node));
        prop_assert!(workload.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        prop_assert_eq!(workload.as_str().len(), 22);
    }

    #[test]
    fn a_node_id_is_a_key(text in "[A-Z1-8]{54,57}") {
        let good = text.len() == 56 && text.starts_with('N') && !text.contains(['1', '8']);
        prop_assert_eq!(NodeId::new(text).is_ok(), good);
    }

    #[test]
    fn a_header_value_is_one_bounded_line(text in "(?s).{0,2000}") {
        let value = header_value(&text);
        prop_assert!(value.len() <= 1024);
        prop_assert!(!value.contains(char::is_control));
        prop_assert_eq!(&header_value(&value), &value);
    }

    #[test]
    fn a_header_value_says_what_fits(text in r"[^\s\p{C}]{1,200}") {
        prop_assert_eq!(header_value(&text), text);
    }

    #[test]
    fn codes_read_back(number in any::<u16>()) {
        let code = ErrorCode::parse(&number.to_string());
        prop_assert_eq!(code.number(), number);
        prop_assert_eq!(ErrorCode::parse(&code.to_string()), code);
    }

    #[test]
    fn a_trigger_is_a_subject_outside_of_the_system(text in r"(\$?[A-Z*>. ]{1,6}){1,4}") {
        if let Ok(trigger) = TriggerSubject::new(text) {
            let text = trigger.as_str();
            prop_assert!(is_subject(text), "{text}");
            for reserved in ["$SYS", "$JS", "$NEX"] {
                let first = text.split('.').next().unwrap();
                prop_assert!(first != reserved && first != ">" && (first != "*" || text == "*"));
            }
        }
    }

    #[test]
    fn triggers_of_people_are_taken(trigger in any::events::trigger_subject()) {
        prop_assert_eq!(TriggerSubject::new(trigger.as_str()), Ok(trigger.clone()));
    }

    #[test]
    fn a_queue_group_is_three_tokens(
        namespace in any::namespace(), name in any::text(), trigger in any::events::trigger_subject(),
    ) {
        let group = queue_group(&namespace, &name, &trigger);
        let parts: Vec<String> = group.split('.').map(unescape).collect();
        let wanted = [namespace.as_str(), &name, trigger.as_str()];
        prop_assert_eq!(parts, wanted, "what reads back belongs to one function only");
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=.".contains(&byte);
        prop_assert!(group.bytes().all(safe), "{}", group);
    }
}

/// Undoes the escapes of a queue group's part.
fn unescape(part: &str) -> String {
    let mut pieces = part.split('=');
    let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).unwrap());
        bytes.extend(rest.bytes());
    }
    String::from_utf8(bytes).unwrap()
}
