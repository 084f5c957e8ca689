//! nex-system-tests
