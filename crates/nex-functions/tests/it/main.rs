//! The function host against a real nats-server, with an engine of one-word programs.

#[cfg(test)]
mod fake;
mod limits;
#[cfg(test)]
mod metrics;
mod replies;
mod stopping;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod watched;
