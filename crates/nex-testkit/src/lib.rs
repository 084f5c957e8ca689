//! nex-testkit
