//! Durations, ids, codes, header values and triggers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nex_protocol::{
    BidId, ErrorCode, GoDuration, Lifecycle, Namespace, NexletId, NexusName, NodeId, WorkloadId,
    function::{TriggerSubject, queue_group},
    header_value,
};

fuzz_target!(|text: &str| {
    nex_fuzz::text::<GoDuration>(text);
    nex_fuzz::text::<Lifecycle>(text);
    nex_fuzz::text::<Namespace>(text);
    nex_fuzz::text::<NexusName>(text);
    nex_fuzz::text::<NodeId>(text);
    nex_fuzz::text::<NexletId>(text);
    nex_fuzz::text::<WorkloadId>(text);
    nex_fuzz::text::<BidId>(text);

    let code = ErrorCode::parse(text);
    assert_eq!(ErrorCode::parse(&code.to_string()), code);

    let value = header_value(text);
    assert!(value.len() <= 1024 && !value.contains(char::is_control));

    if let Ok(trigger) = TriggerSubject::new(text) {
        let group = queue_group(&Namespace::default_tenant(), text, &trigger);
        assert!(!group.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '>')));
    }
});
