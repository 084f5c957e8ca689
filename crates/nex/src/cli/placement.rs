//! Flags that say where a workload may go, and that ask why it went there.

use clap::Args;
use nex_client::PlaceOptions;

/// Where a workload may go.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PlacementArgs {
    /// The only node that may get it: its id, the beginning of its id, or its name
    #[arg(long, value_name = "ID|NAME")]
    pub(crate) node_id: Option<String>,
    /// Tell which nodes were asked, what each said, and why one was chosen
    #[arg(long)]
    pub(crate) explain: bool,
}

impl PlacementArgs {
    /// The same for the client.
    pub(crate) fn options(&self) -> PlaceOptions {
        PlaceOptions {
            node: self.node_id.clone(),
            ..PlaceOptions::default()
        }
    }
}
