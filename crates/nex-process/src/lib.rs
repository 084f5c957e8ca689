//! nex-process
