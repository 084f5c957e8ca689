//! nex-nats
