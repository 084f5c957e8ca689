//! nex-server
