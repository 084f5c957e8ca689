//! The WebAssembly nexlet as its runner drives it, against a real nats-server.

#[cfg(test)]
mod bench;
mod conformance;
mod modules;
mod runaways;
