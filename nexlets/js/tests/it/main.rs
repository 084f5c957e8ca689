//! The JavaScript nexlet as its runner drives it, against a real nats-server.

#[cfg(test)]
mod bench;
mod conformance;
mod modules;
mod outage;
mod runaways;
mod scripts;
mod services;
mod web;
