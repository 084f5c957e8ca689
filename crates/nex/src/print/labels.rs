//! A heading and labelled lines below it, as Go Nex prints what it knows about one thing.

use super::table::printable;

/// A heading, a blank line, and the pairs with their labels aligned to the right.
pub(crate) fn labelled(heading: &str, pairs: &[(&str, String)]) -> String {
    const INDENT: usize = 4;
    let widest = pairs.iter().map(|(label, _)| label.chars().count()).max();
    let width = widest.unwrap_or(0) + INDENT;
    let mut text = format!("{}\n", printable(heading));
    for (label, value) in pairs {
        let (label, value) = (printable(label), printable(value));
        text.push_str(&format!("\n{label:>width$}: {value}"));
    }
    text
}

/// Tags as `k=v`, joined by `, `.
pub(crate) fn tags(tags: &nex_protocol::Tags) -> String {
    let pairs: Vec<String> = tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_aligned_to_the_right() {
        let pairs = [
            ("Nexus", "nexus".to_owned()),
            ("Node Name", "n\n1".to_owned()),
        ];
        assert_eq!(
            labelled("Information about Node N", &pairs),
            "Information about Node N\n\n        Nexus: nexus\n    Node Name: n\u{fffd}1"
        );
    }
}
