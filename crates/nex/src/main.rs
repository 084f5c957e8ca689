//! nex
fn main() {}
