//! nex-protocol
