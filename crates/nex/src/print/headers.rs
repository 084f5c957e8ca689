//! Headers of messages. A header may have several values.

use async_nats::HeaderMap;
use serde_json::{Map, Value};

/// Each value of each header with its name, sorted by name; values of one header stay in their order.
pub(crate) fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = headers
        .iter()
        .flat_map(|(name, values)| {
            let pair = |value: &async_nats::HeaderValue| (name.to_string(), value.to_string());
            values.iter().map(pair)
        })
        .collect();
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    pairs
}

/// An object by name: the value as a string, or a list of strings where a header has several values.
pub(crate) fn json(headers: &HeaderMap) -> Value {
    let mut object = Map::new();
    for (name, value) in pairs(headers) {
        match object.get_mut(&name) {
            None => {
                object.insert(name, value.into());
            }
            Some(Value::Array(values)) => values.push(value.into()),
            Some(first) => *first = Value::from(vec![first.take(), value.into()]),
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_of_a_header_is_there() {
        let mut headers = HeaderMap::new();
        headers.append("x-b", "1");
        for value in ["z", "a", "z", ""] {
            headers.append("x-a", value);
        }
        headers.append("X-A", "other case");

        assert_eq!(
            super::json(&headers),
            json!({"X-A": "other case", "x-a": ["z", "a", "z", ""], "x-b": "1"})
        );
        assert_eq!(super::pairs(&headers).len(), 6);
        assert_eq!(super::json(&HeaderMap::new()), json!({}));
    }
}
