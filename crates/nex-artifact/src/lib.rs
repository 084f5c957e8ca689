//! nex-artifact
