//! nex-node
