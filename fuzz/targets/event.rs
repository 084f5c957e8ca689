//! Events: the sender on the first line, then the name, then the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nex_protocol::event::Event;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let (Some(from), Some(name), Some(body)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let (Ok(from), Ok(name)) = (str::from_utf8(from), str::from_utf8(name)) else {
        return;
    };
    if let Ok(event) = Event::parse(from, name, body) {
        assert_eq!(event.name(), name);
        Event::parse(from, name, &event.body()).expect("what was written can be read");
    }
});
