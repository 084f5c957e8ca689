//! The JavaScript nexlet as its runner drives it, against a real nats-server.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod buckets;
mod conformance;
mod modules;
mod outage;
#[cfg(test)]
mod refusals;
mod runaways;
mod scripts;
mod services;
mod waiting;
mod web;
