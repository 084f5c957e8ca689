//! Subjects.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nex_protocol::Subject;

fuzz_target!(|text: &str| {
    if let Some(subject) = Subject::parse(text) {
        assert_eq!(subject.to_string(), text);
    }
});
