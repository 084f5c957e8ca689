//! Whatever comes in, decoders answer; what they take can be sent on.

use std::sync::LazyLock;

use proptest::prelude::*;

use crate::{
    Subject,
    event::Event,
    tests::{any, messages::Message, samples},
    workload::parse_list,
};

/// Made once: there are thousands of cases.
static MESSAGES: LazyLock<Vec<Message>> = LazyLock::new(samples::all);

/// Cuts out a part of a text and puts another in its place, at any bytes.
fn damage(text: &str, at: usize, length: usize, instead: &[u8]) -> Vec<u8> {
    let at = at % text.len();
    let end = (at + length).min(text.len());
    [&text.as_bytes()[..at], instead, &text.as_bytes()[end..]].concat()
}

fn takes_or_refuses(message: &Message, body: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(sent_on) = (message.read)(body) {
        let read = (message.read)(sent_on.as_bytes());
        prop_assert!(read.is_ok(), "{}: {}: {:?}", message.name, sent_on, read);
    }
    Ok(())
}

/// Bits of JSON that change what a decoder sees.
fn token() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "",
        "null",
        "{}",
        "[]",
        "\"\"",
        "-1",
        "1e999",
        "0.5",
        "18446744073709551616",
        "true",
        "\\u0000",
        "\"",
        ",",
        ":",
        "}",
        "{\"",
        "\u{1f534}",
    ]);
    prop_oneof![
        known.prop_map(|text| text.as_bytes().to_vec()),
        any::<Vec<u8>>(),
        any::text().prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn damaged_messages(at in any::<usize>(), length in 0..40usize, instead in token()) {
        for message in MESSAGES.iter() {
            takes_or_refuses(message, &damage(&message.full, at, length, &instead))?;
        }
    }

    #[test]
    fn messages_of_any_values(value in any::json(), at in any::<usize>()) {
        for message in MESSAGES.iter() {
            let mut object: serde_json::Map<_, _> = serde_json::from_str(&message.full).unwrap();
            let count = object.len();
            if let Some(field) = object.values_mut().nth(at.checked_rem(count).unwrap_or(0)) {
                *field = value.clone();
            }
            takes_or_refuses(message, &serde_json::to_vec(&object).unwrap())?;
        }
    }

    #[test]
    fn any_bytes(body in any::<Vec<u8>>()) {
        for message in MESSAGES.iter() {
            takes_or_refuses(message, &body)?;
        }
        drop(parse_list(&body));
    }

    #[test]
    fn any_event(from in any::text(), event in any::events::event(), body in token()) {
        drop(Event::parse(&from, event.name(), &event.body()));
        drop(Event::parse(&from, event.name(), &body));
    }

    #[test]
    fn any_subject(text in r"(\$NEX\.(SVC|FEED)\.)?(?s).{0,40}") {
        if let Some(subject) = Subject::parse(&text) {
            prop_assert_eq!(subject.to_string(), text);
        }
    }

    #[test]
    fn subjects_of_any_tokens(
        known in any::subjects::subject(), at in any::<usize>(), instead in r"[A-Z*>$ ]{0,8}",
    ) {
        let text = known.to_string();
        let mut tokens: Vec<&str> = text.split('.').collect();
        let at = at % tokens.len();
        tokens[at] = &instead;
        let text = tokens.join(".");
        if let Some(subject) = Subject::parse(&text) {
            prop_assert_eq!(subject.to_string(), text);
        }
    }
}
