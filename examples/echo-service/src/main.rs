//! echo-service
fn main() {}
