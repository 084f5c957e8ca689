//! Where an artifact is.

use std::{fmt, path::PathBuf, str::FromStr};

/// The tag that is meant where a URI has none.
const DEFAULT_TAG: &str = "latest";

/// A regular expression for the texts that are URIs of artifacts, for JSON Schemas.
pub const URI_PATTERN: &str = r"^(file:///[^\x00]*|nats://[A-Za-z0-9_-]+/[^:\x00]+(:[^\x00]+)?)$";
/// Examples of URIs, for JSON Schemas.
pub const URI_EXAMPLES: [&str; 2] = ["file:///absolute/path", "nats://BUCKET/NAME:TAG"];

/// A parsed URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ArtifactUri {
    /// A file on the machine that runs it.
    File(PathBuf),
    /// An object in a NATS object store; its key is `<name>_<tag>`, as in Go.
    ObjectStore {
        /// The bucket.
        bucket: String,
        /// The name; may contain `/`.
        name: String,
        /// The tag.
        tag: String,
    },
}

/// A text that is no URI of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid artifact URI `{0}`: want `file:///absolute/path` or `nats://BUCKET/NAME[:TAG]`")]
pub struct InvalidUri(String);

impl ArtifactUri {
    /// The key of an object under its name and tag.
    pub(crate) fn object_key(name: &str, tag: &str) -> String {
        format!("{name}_{tag}")
    }

    /// Its last part, for people: a file's or an object's name without folders and tag.
    #[must_use]
    pub fn short_name(&self) -> String {
        match self {
            Self::File(path) => path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            Self::ObjectStore { name, .. } => {
                name.rsplit('/').next().unwrap_or_default().to_owned()
            }
        }
    }
}

impl FromStr for ArtifactUri {
    type Err = InvalidUri;

    fn from_str(text: &str) -> Result<Self, InvalidUri> {
        parse(text).ok_or_else(|| InvalidUri(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<ArtifactUri> {
    if text.contains('\0') {
        return None;
    }
    if let Some(path) = text.strip_prefix("file://") {
        return path
            .starts_with('/')
            .then(|| ArtifactUri::File(path.into()));
    }
    let (bucket, rest) = text.strip_prefix("nats://")?.split_once('/')?;
    let (name, tag) = rest.split_once(':').unwrap_or((rest, DEFAULT_TAG));
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let good =
        !bucket.is_empty() && bucket.bytes().all(valid) && !name.is_empty() && !tag.is_empty();
    good.then(|| ArtifactUri::ObjectStore {
        bucket: bucket.to_owned(),
        name: name.to_owned(),
        tag: tag.to_owned(),
    })
}

impl fmt::Display for ArtifactUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::ObjectStore { bucket, name, tag } if tag == DEFAULT_TAG => {
                write!(f, "nats://{bucket}/{name}")
            }
            Self::ObjectStore { bucket, name, tag } => write!(f, "nats://{bucket}/{name}:{tag}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_go_are_read() {
        let object = |bucket: &str, name: &str, tag: &str| ArtifactUri::ObjectStore {
            bucket: bucket.into(),
            name: name.into(),
            tag: tag.into(),
        };
        let cases = [
            (
                "file:///usr/bin/web",
                ArtifactUri::File("/usr/bin/web".into()),
            ),
            ("nats://apps/web", object("apps", "web", "latest")),
            ("nats://apps/web:v2", object("apps", "web", "v2")),
            ("nats://apps/a/b:v1:x", object("apps", "a/b", "v1:x")),
        ];
        for (text, uri) in cases {
            assert_eq!(text.parse(), Ok(uri), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_forms() {
        for text in [
            "",
            "web",
            "/usr/bin/web",
            "file://web",
            "nats://apps",
            "nats:///web",
            "nats://apps/",
            "nats://apps/web:",
            "nats://a.b/web",
            "http://apps/web",
            "file:///a\0b",
        ] {
            let error = text.parse::<ArtifactUri>().unwrap_err();
            assert!(
                error.to_string().contains("nats://BUCKET/NAME[:TAG]"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_uri_reads_back() {
        for text in ["file:///a/b", "nats://apps/web", "nats://apps/a/b:v2"] {
            assert_eq!(text.parse::<ArtifactUri>().unwrap().to_string(), text);
        }
    }
}
