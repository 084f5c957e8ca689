//! Artifacts: the files that workloads run, by URI.
//!
//! | item | what it is for |
//! |---|---|
//! | [`ArtifactUri`] | `file://…` and `nats://BUCKET/NAME[:TAG]`, parsed |
//! | [`Cache`] | fetches into a bounded folder; what is asked for at the same time is fetched once |
//! | [`read()`] | reads a small artifact into memory |
//! | [`upload()`] | puts a file into an object store under the hash of its content |
//! | [`LinkPath`] | follows the links of object stores, a few of them |
//! | [`NewObject`] | writes an object from memory |
//! | [`ObjectReader`] | reads the content of an object and checks it against the metadata |
//!
//! # Invariants
//!
//! - A file in the cache is complete, has the digest that its name says, and was closed before it
//!   got that name: it can be executed at once.
//! - Of several uploads of one content at the same time, one sends; the others wait for it.

mod cache;
mod digest;
mod error;
mod links;
mod object;
mod reader;
mod upload;
mod uri;
mod writer;

pub use cache::{Cache, Fetched};
pub use error::{FetchError, Kind, StoreError, UploadError};
pub use links::{LinkError, LinkPath, MAX_LINKS, Target};
pub use object::{read, read_described};
pub use reader::{ContentError, ObjectReader};
pub use upload::{Uploaded, upload};
pub use uri::{ArtifactUri, InvalidUri, URI_EXAMPLES, URI_PATTERN};
pub use writer::NewObject;
