//! Checks that a stream can have messages that a trigger is to get.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{self, stream::Config},
};
use nex_protocol::{ErrorCode, function::StreamTrigger};
use nexlet::Refusal;

/// Time for the server to describe a stream. Where it may not be asked, nothing is checked.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The most subjects that an error lists.
const SHOWN_SUBJECTS: usize = 10;

/// Returns a refusal of a trigger whose filter fits no subject of its stream, as far as that can be
/// told: a stream that copies others has their subjects.
pub(crate) async fn mismatch(client: &Client, trigger: &StreamTrigger) -> Option<Refusal> {
    let filter = trigger.filter.as_ref()?.as_str();
    let mut context = jetstream::new(client.clone());
    context.set_timeout(DESCRIBE_TIMEOUT);
    let stream = context.get_stream(trigger.stream.as_str()).await.ok()?;
    let Config {
        subjects,
        mirror,
        sources,
        subject_transform,
        ..
    } = &stream.cached_info().config;
    let copies = mirror.is_some() || sources.as_ref().is_some_and(|sources| !sources.is_empty());
    let fits = subjects.iter().any(|subject| overlap(subject, filter));
    if copies || subject_transform.is_some() || fits {
        return None;
    }
    let mut shown: Vec<&str> = subjects.iter().map(String::as_str).collect();
    let more = if shown.len() > SHOWN_SUBJECTS {
        ", …"
    } else {
        ""
    };
    shown.truncate(SHOWN_SUBJECTS);
    let text = format!(
        "stream `{}` never has messages on `{filter}`: its subjects are `{}`{more}; want a filter among these",
        trigger.stream.as_str(),
        shown.join("`, `")
    );
    Some(Refusal::new(ErrorCode::BadRequest, text))
}

/// Returns whether some subject matches both of two subjects with wildcards.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(one), Some(other)) if one == other || one == "*" || other == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn subjects_overlap_where_one_message_matches_both() {
        for (one, other, overlaps) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "*.b", true),
            ("a.*.c", "a.b.*", true),
            ("a.*.c", "a.b.d", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "*.b", true),
            (">", "x", true),
            ("a.>", "b.>", false),
            ("$KV.b.>", "$KV.b.key", true),
        ] {
            assert_eq!(overlap(one, other), overlaps, "{one} {other}");
            assert_eq!(overlap(other, one), overlaps, "{other} {one}");
        }
    }
}
