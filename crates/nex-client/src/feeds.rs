//! Logs and events: from the stream that keeps them where there is one, else live.
//!
//! With the stream a reader begins in the past and goes on live in the same consumer, so nothing
//! falls between the two. Where the connection is lost it resumes behind the last message that it
//! has read, so that nothing is lost or read twice. Without it only what is published from now on can be seen;
//! [`Logs::source`] and [`Events::source`] say which it is.

mod lines;
mod logs;
mod reader;
mod stored;
pub(crate) mod stream;

mod events;

pub use events::{EventEntry, EventQuery, Events};
pub use logs::{LogLine, LogQuery, Logs};
pub use reader::{FeedError, FeedSource};
pub use stream::{FeedLimits, FeedsStreamError, ensure_feeds_stream};
