//! YAML, and so JSON, as a tree that knows where each of its parts stands in the text.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{
    Location, MessageFormatter as _, Options, Spanned, UserMessageFormatter,
    budget::{Budget, BudgetBreach},
};

use super::place::{Fault, Place};

/// The most values in one file, those that aliases repeat included.
const MAX_NODES: usize = 20_000;

/// How deep lists and mappings may be in each other.
const MAX_DEPTH: usize = 32;

/// The largest whole number that a double holds exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// One value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Debug)]
struct Entry {
    key: String,
    place: Place,
    value: Node,
}

impl Node {
    /// Reads a text of one document. `1.2` and `true` are what YAML 1.2 takes them for; `yes`,
    /// `0755` and `1_000`, on which versions of YAML differ, are strings.
    ///
    /// # Errors
    /// Says where the text is no YAML, or why it is too much of it.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let read: Result<Spanned<Content>, _> =
            serde_saphyr::from_str_with_options(text, options());
        read.map(Self::from).map_err(|error| {
            let message = match budget(&error) {
                Some(breach) => too_much(breach),
                None => plain(UserMessageFormatter.format_message(&error).as_ref()),
            };
            Fault::new(error.location().map_or(Place::START, Place::from), message)
        })
    }

    /// Whether there is nothing in the text but blanks and comments.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// The same as JSON.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Mapping(entries) => {
                let pairs = entries.iter();
                let pairs = pairs.map(|entry| (entry.key.clone(), entry.value.to_value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// Where a part stands: the value at a JSON pointer, or a key of the mapping there. Of one that
    /// is not there, the nearest part around it.
    pub(super) fn find(&self, pointer: &str, key: Option<&str>) -> Place {
        let mut node = self;
        for segment in pointer.split('/').skip(1) {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            match node.child(&segment) {
                Some(child) => node = child,
                None => break,
            }
        }
        key.and_then(|key| node.entry(key))
            .map_or(node.place, |entry| entry.place)
    }

    fn child(&self, segment: &str) -> Option<&Self> {
        match &self.content {
            Content::Scalar(_) => None,
            Content::List(items) => items.get(segment.parse::<usize>().ok()?),
            Content::Mapping(_) => self.entry(segment).map(|entry| &entry.value),
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

impl From<Spanned<Content>> for Node {
    fn from(spanned: Spanned<Content>) -> Self {
        Self {
            place: spanned.referenced.into(),
            content: spanned.value,
        }
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        let number = |of: u64| usize::try_from(of).unwrap_or(usize::MAX).max(1);
        Self {
            line: number(location.line()),
            column: number(location.column()),
            width: number(location.span().len()),
        }
    }
}

fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_nodes = MAX_NODES;
    budget.max_events = 4 * MAX_NODES;
    budget.max_depth = MAX_DEPTH;
    // Aliases copy text; together they may not make more of it than a file may have.
    budget.max_total_scalar_bytes = 4 * super::MAX_BYTES;
    let mut options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        budget: Some(budget),
    };
    options.alias_limits.max_total_replayed_events = 4 * MAX_NODES;
    options
}

/// Whether a limit of ours was reached.
fn budget(error: &serde_saphyr::Error) -> Option<&BudgetBreach> {
    match error.without_snippet() {
        serde_saphyr::Error::Budget { breach, .. } => Some(breach),
        serde_saphyr::Error::AliasError { error, .. } => budget(error),
        _ => None,
    }
}

fn too_much(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => format!("more than {MAX_DEPTH} levels deep"),
        BudgetBreach::Nodes { .. } => {
            format!("more than {MAX_NODES} values, those that aliases repeat included")
        }
        _ => "too much, what aliases repeat included".to_owned(),
    }
}

/// A message of the parser without the place at its end, which is told before it.
fn plain(message: &str) -> String {
    let end = message.find(" at line ").unwrap_or(message.len());
    let mut letters = message[..end].chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "only whole numbers that a double holds exactly are cast"
    )]
    fn visit_f64<E: Error>(self, value: f64) -> Result<Content, E> {
        // `1.0` and `1e3` are whole numbers, and nexlets that want one read no other form.
        if value.fract() == 0.0 && value.abs() <= MAX_EXACT {
            return Ok(Content::Scalar((value as i64).into()));
        }
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Content::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Content>>()? {
            list.push(item.into());
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut mapping = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Content>>()? {
            mapping.push(Entry {
                place: key.referenced.into(),
                key: key.value,
                value: value.into(),
            });
        }
        Ok(Content::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        Node::parse(text).unwrap().to_value()
    }

    fn fault(text: &str) -> String {
        let fault = Node::parse(text).unwrap_err();
        format!(
            "{}:{}: {}",
            fault.place.line, fault.place.column, fault.message
        )
    }

    #[test]
    fn yaml_and_json_are_the_same_values() {
        let yaml = "name: web\nstart_request:\n  argv: [-p, '80', \"\\u00e9\"]\n  n: 1.5\n  on: true\n  no: ~\n";
        let json = "{\n\t\"name\": \"web\",\n\t\"start_request\": {\"argv\": [\"-p\", \"80\", \"\\u00e9\"], \"n\": 1.5, \"on\": true, \"no\": null}\n}";
        let wanted = json!({
            "name": "web",
            "start_request": {"argv": ["-p", "80", "é"], "n": 1.5, "on": true, "no": null},
        });
        assert_eq!(value(yaml), wanted);
        assert_eq!(value(json), wanted);
        assert_eq!(
            value(r#"{"a": "\ud83d\ude00 \/ \n"}"#),
            json!({"a": "😀 / \n"})
        );
    }

    #[test]
    fn what_versions_of_yaml_differ_on_is_text() {
        assert_eq!(
            value("[yes, off, 0755, 1_000, 2026-01-02]"),
            json!(["yes", "off", "0755", "1_000", "2026-01-02"])
        );
        assert_eq!(
            value("[1.0, 1e3, 0x1F, -2, 1.5]"),
            json!([1, 1000, 31, -2, 1.5])
        );
    }

    #[test]
    fn each_part_knows_where_it_stands() {
        let text = "name: web\nstart_request:\n  uri: file:///x\n  argv:\n    - a\n    - 80\n  a/b: {c: 1}\n";
        let node = Node::parse(text).unwrap();
        let at = |pointer, key| {
            let place = node.find(pointer, key);
            (place.line, place.column, place.width)
        };
        assert_eq!(at("", Some("name")), (1, 1, 4));
        assert_eq!(at("/start_request/uri", None), (3, 8, 9));
        assert_eq!(at("/start_request/argv/1", None), (6, 7, 2));
        assert_eq!(at("/start_request/a~1b/c", None), (7, 12, 1));
        // Of what is missing: the mapping that lacks it.
        assert_eq!(at("/start_request/nothing", None).0, 3);
    }

    #[test]
    fn what_is_no_yaml_has_its_place() {
        for (text, wanted) in [
            ("a: 1\na: 2\n", "2:1: duplicate mapping key `a`"),
            ("{\"a\": 1,\n \"a\": 2}", "2:2: duplicate mapping key `a`"),
            ("a: [1, 2\nb: 3\n", "2:2: "),
            ("a:\n\tb: 1\n", "2:2: tabs disallowed"),
            ("? [a, b]\n: 1\n", "1:3: expected string scalar"),
            ("a: .nan\n", "1:4: value `.nan` is not a finite number"),
            ("a: !run b\n", "1:"),
            ("a: *nothing\n", "1:4: reference to unknown value"),
            (
                "a: 1\n---\nb: 2\n",
                "3:1: only single YAML document expected",
            ),
            ("a: \"\u{0}\"", "1:"),
        ] {
            let fault = fault(text);
            assert!(fault.starts_with(wanted), "{text:?}: {fault}");
            assert!(!fault.contains(" at line "), "{fault}");
        }
    }

    #[test]
    fn a_text_that_grows_without_end_is_refused_before_it_has_grown() {
        let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for level in 1..12 {
            let inner = format!("*a{},", level - 1).repeat(10);
            laughs.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(60_000), "*a,".repeat(90));
        let merges = format!("a: &a {{k: 1}}\nb: {{<<: [{}]}}\n", "*a,".repeat(50_000));
        let deep = "[".repeat(100_000);

        for text in [laughs, long, merges, deep] {
            let fault = Node::parse(&text).unwrap_err();
            let told = ["more than ", "too much", "recursion limit"];
            assert!(
                told.iter().any(|start| fault.message.starts_with(start)),
                "{}",
                fault.message
            );
        }
    }

    #[test]
    fn levels_are_counted() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Node::parse(&nested(MAX_DEPTH)).is_ok());
        let fault = Node::parse(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert!(fault.message.contains("levels deep"), "{}", fault.message);
    }
}
