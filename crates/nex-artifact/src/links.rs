//! Links of object stores: an object may stand for another one, in the same bucket or elsewhere.
//!
//! Whoever may publish into a bucket can make a link that leads to itself, or thousands in a row. So a
//! look-up follows a few, and remembers where it was. It does no I/O of its own: functions and
//! artifacts have different rights and errors for the buckets on the way.
//!
//! ```text
//!   LinkPath::new ──> look up target() ──> follow(info) ──false──> the object
//!                         ↑                    │true
//!                         └────────────────────┘
//! ```

use std::fmt;

use async_nats::jetstream::object_store::ObjectInfo;

/// The most links that are followed from a name to an object.
pub const MAX_LINKS: usize = 8;
/// Upper bound of a name in an error, in characters; names can be as long as messages.
const SHOWN_CHARS: usize = 96;

/// The objects that one look-up has come by, the next one to look up as the last.
#[derive(Clone, Debug)]
pub struct LinkPath(Vec<Target>);

/// An object that is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The bucket.
    pub bucket: String,
    /// The object's name in it.
    pub name: String,
}

/// A link that leads to no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The link leads back to an object that the look-up has passed.
    #[error("links lead in a circle: {0}; want a link to an object with content")]
    Loop(String),
    /// More links in a row than a look-up follows.
    #[error(
        "more than {MAX_LINKS} links in a row: {0} -> …; want a link to an object with content"
    )]
    TooMany(String),
    /// The link leads to a bucket.
    #[error("{path} is a link to the bucket `{bucket}`; want a link to an object")]
    Bucket {
        /// The objects on the way to it.
        path: String,
        /// The bucket.
        bucket: String,
    },
}

impl LinkPath {
    /// A look-up that begins at an object.
    #[must_use]
    pub fn new(bucket: impl Into<String>, name: impl Into<String>) -> Self {
        let (bucket, name) = (bucket.into(), name.into());
        Self(vec![Target { bucket, name }])
    }

    /// The object to look up next.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.0.last().expect("a path begins with an object")
    }

    /// Returns whether a link has led to the present object.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.0.len() > 1
    }

    /// Takes the information about the [`target`](Self::target) into account. Returns whether the
    /// target is a link; then the path has a new target.
    ///
    /// # Errors
    /// [`LinkError`] for a link that is not followed.
    pub fn follow(&mut self, info: &ObjectInfo) -> Result<bool, LinkError> {
        let link = info
            .options
            .as_ref()
            .and_then(|options| options.link.as_ref());
        let Some(link) = link else {
            return Ok(false);
        };
        let name = link.name.clone().unwrap_or_default();
        if name.is_empty() {
            return Err(LinkError::Bucket {
                path: self.to_string(),
                bucket: shown(&link.bucket),
            });
        }
        let target = Target {
            bucket: link.bucket.clone(),
            name,
        };
        let was_here = self.0.contains(&target);
        if !was_here && self.0.len() > MAX_LINKS {
            return Err(LinkError::TooMany(self.to_string()));
        }
        self.0.push(target);
        match was_here {
            true => Err(LinkError::Loop(self.to_string())),
            false => Ok(true),
        }
    }
}

impl fmt::Display for LinkPath {
    /// All names on the way: `apps/app -> apps/v2 -> old/app`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Target { bucket, name }) in self.0.iter().enumerate() {
            let arrow = if number > 0 { " -> " } else { "" };
            write!(f, "{arrow}{}/{}", shown(bucket), shown(name))?;
        }
        Ok(())
    }
}

/// A name as an error shows it: on one line, and not much of a long one.
fn shown(name: &str) -> String {
    let mut chars = name.chars();
    let printable = |char: char| if char.is_control() { '?' } else { char };
    let mut text: String = chars.by_ref().take(SHOWN_CHARS).map(printable).collect();
    if chars.next().is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn info(link: serde_json::Value) -> ObjectInfo {
        let info = json!({ "name": "x", "bucket": "lies", "options": { "link": link } });
        serde_json::from_value(info).unwrap()
    }

    fn link(bucket: &str, name: &str) -> ObjectInfo {
        info(json!({ "bucket": bucket, "name": name }))
    }

    #[test]
    fn an_object_ends_the_path() {
        let mut path = LinkPath::new("a", "app");
        assert!(!path.follow(&info(json!(null))).unwrap() && !path.is_linked());
        assert!(path.follow(&link("b", "app")).unwrap() && path.is_linked());
        assert_eq!((&*path.target().bucket, &*path.target().name), ("b", "app"));
        assert!(!path.follow(&info(json!(null))).unwrap());
        assert_eq!(path.to_string(), "a/app -> b/app");
    }

    #[test]
    fn a_circle_is_found_when_it_closes() {
        let mut path = LinkPath::new("a", "app");
        assert!(path.follow(&link("b", "app")).unwrap());
        let error = path.follow(&link("a", "app")).unwrap_err();
        assert_eq!(error, LinkError::Loop("a/app -> b/app -> a/app".to_owned()));
        let mut path = LinkPath::new("a", "app");
        let error = path.follow(&link("a", "app")).unwrap_err();
        assert_eq!(error, LinkError::Loop("a/app -> a/app".to_owned()));
    }

    #[test]
    fn so_many_links_are_followed_and_no_more() {
        let mut path = LinkPath::new("a", "0");
        for number in 1..=MAX_LINKS {
            assert!(path.follow(&link("a", &number.to_string())).unwrap());
        }
        assert!(!path.clone().follow(&info(json!(null))).unwrap());
        let error = path.follow(&link("a", "one more")).unwrap_err();
        assert!(matches!(&error, LinkError::TooMany(path) if path.ends_with("-> a/8")));
    }

    #[test]
    fn a_bucket_is_no_object() {
        for target in [
            json!({ "bucket": "b" }),
            json!({ "bucket": "b", "name": "" }),
        ] {
            let error = LinkPath::new("a", "app").follow(&info(target)).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("a/app is a link to the bucket `b`")
            );
        }
    }

    #[test]
    fn long_and_broken_names_are_shown_on_one_short_line() {
        let mut path = LinkPath::new("a", "line\r\nbreak");
        path.follow(&link("a", &"ü".repeat(100_000))).unwrap();
        let text = path.to_string();
        assert!(text.starts_with("a/line??break -> a/ü") && text.ends_with('…'));
        assert!(text.chars().count() < 200);
    }
}
