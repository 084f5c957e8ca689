//! nex-functions
