//! nex-client
