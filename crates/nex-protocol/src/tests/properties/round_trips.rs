//! What is written reads back the same.

use std::fmt::Debug;

use proptest::{prelude::*, test_runner::TestCaseResult};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Subject,
    event::Event,
    tests::any::{self, control, events, nexlets, workloads},
    workload::parse_list,
};

fn reads_back<T>(value: &T) -> TestCaseResult
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let text = serde_json::to_string(value).unwrap();
    let back = serde_json::from_str::<T>(&text);
    prop_assert!(
        back.as_ref().is_ok_and(|back| back == value),
        "{text} became {back:?}"
    );
    Ok(())
}

macro_rules! round_trips {
    ($($name:ident: $strategy:expr;)*) => {
        proptest! {
            $(
                #[test]
                fn $name(value in $strategy) {
                    reads_back(&value)?;
                }
            )*
        }
    };
}

round_trips! {
    auction_request: control::auction_request();
    bid: control::bid();
    declined: control::declined();
    clone_request: control::clone_request();
    clone_response: control::clone_response();
    node_ping_request: control::ping_request();
    node_ping_response: control::ping_response();
    node_info_response: control::info_response();
    lameduck_request: control::lameduck_request();
    lameduck_response: control::lameduck_response();
    start_request: workloads::start_request();
    start_response: workloads::start_response();
    nexlet_start_request: workloads::nexlet_start_request();
    stop_request: workloads::stop_request();
    stop_response: workloads::stop_response();
    list_request: workloads::list_request();
    nexfile: workloads::nexfile();
    connection: nexlets::connection();
    register_remote_response: nexlets::remote_response();
    register_request: nexlets::register_request();
    register_response: nexlets::register_response();
    nexlet_heartbeat: nexlets::heartbeat();
    node_heartbeat: nexlets::node_heartbeat();
    ingress_data: events::ingress_data();
    workload_location: events::location();
    encrypted_environment: events::environment();
    error_body: events::error_body();
    trigger: events::trigger();
}

proptest! {
    #[test]
    fn lists(list in proptest::collection::vec(workloads::summary(), 0..4)) {
        let body = serde_json::to_vec(&list).unwrap();
        prop_assert_eq!(parse_list(&body).unwrap(), list);
    }

    #[test]
    fn events_with_their_subjects(event in events::event()) {
        let text = event.subject().to_string();
        let Some(Subject::Event(from, name)) = Subject::parse(&text) else {
            return Err(TestCaseError::fail(format!("{text} is no subject of an event")));
        };
        prop_assert_eq!(Event::parse(&from, &name, &event.body()).unwrap(), event);
    }

    #[test]
    fn subjects(subject in any::subjects::subject()) {
        prop_assert_eq!(Subject::parse(&subject.to_string()), Some(subject));
    }
}
