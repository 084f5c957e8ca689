//! Tells which node would get a function, and why, and starts nothing.
//!
//! With a `nex up` running: `cargo run -p nex-client --example explain -- js`

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;

use nex_client::{Client, PlaceOptions, StartSpec};
use nex_nats::{ConnectOptions, DEFAULT_SERVER, Reconnect};
use nex_protocol::{Lifecycle, Namespace};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let workload_type = arguments.next().ok_or("want a type of workload")?;
    let server = arguments
        .next()
        .unwrap_or_else(|| DEFAULT_SERVER.to_owned());

    let options = ConnectOptions {
        reconnect: Reconnect::Never,
        ..ConnectOptions::new([server], "example")
    };
    let connection = nex_nats::connect(&options).await?;
    let client = Client::new(&connection, Namespace::default_tenant());

    // What is asked is only who bids: the start request is not looked at.
    let spec = StartSpec::new(&workload_type, Lifecycle::Function, &"");
    let looked = client.would_place(&spec, &PlaceOptions::default()).await;
    for node in looked.explanation.iter().flat_map(|each| &each.nodes) {
        let name = node.name.as_deref().unwrap_or("--");
        println!("{name}: {:?}, {}", node.verdict, node.reason);
    }
    connection.close().await;
    println!("`{}` workloads find a place", looked.outcome?);
    Ok(())
}
