//! The control plane of Nex from a caller's side: find nodes, place workloads, stop, list and
//! follow them. What the command line uses, and what other programs can.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nex_client::{Client, StartSpec};
//! use nex_protocol::{Lifecycle, Namespace};
//!
//! let options = nex_nats::ConnectOptions::new(["nats://127.0.0.1:4222"], "example");
//! let connection = nex_nats::connect(&options).await?;
//! let client = Client::new(&connection, Namespace::default_tenant());
//! let request = serde_json::json!({ "uri": "file:///usr/bin/env" });
//! let placed = client
//!     .start(StartSpec::new("native", Lifecycle::Job, &request))
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/` has programs that do something: `place` runs a job and prints what it prints,
//! `explain` tells which node would get a function, and why.
//!
//! # How a broadcast ends
//! Requests to all nodes are sent together with a ping. Nodes answer the ping with the nodes that
//! they know, so the client waits for exactly these and is done when the last one has answered.
//! Who has not answered at the limit is named. A node of Go Nex says neither its name in replies
//! nor whom it knows: it counts as one reply without a name, and among such nodes alone a short
//! silence closes the list.
//!
//! | module | what is in it |
//! |---|---|
//! | [`Client`] | all requests |
//! | [`feeds`] | logs and events, from the stream that keeps them or live |
//! | [`limits`] | every wait, in one table |

pub mod feeds;
pub mod limits;

mod absence;
mod attempt;
mod auction;
mod client;
mod clone;
mod dead_letters;
mod error;
mod explain;
mod field;
mod find;
mod fit;
mod fleet;
mod invoke;
mod lameduck;
mod link;
mod list;
mod nodes;
mod rank;
mod roster;
mod rounds;
mod start;
mod stop;
mod stuck_streams;

pub use attempt::{Attempts, FailedAttempt};
pub use auction::{AuctionAnswer, AuctionSpec};
pub use client::Client;
pub use dead_letters::{DeadLetter, DeadLetterError, DeadLetters};
pub use error::{ClientError, Refused};
pub use explain::{Considered, Explained, Explanation, Verdict};
pub use feeds::{
    EventEntry, EventQuery, Events, FeedError, FeedLimits, FeedSource, FeedsStreamError, LogLine,
    LogQuery, Logs, ensure_feeds_stream,
};
pub use find::FindError;
pub use invoke::{Called, Callee, InvokeError};
pub use link::Link;
pub use list::ListAnswer;
pub use nodes::{FindNodeError, NodesAnswer};
pub use start::{PlaceOptions, Placed, StartError, StartSpec};
pub use stuck_streams::{StuckStreamsError, stuck_streams};
