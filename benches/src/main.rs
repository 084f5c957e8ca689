//! nex-benches
fn main() {}
