//! nex-credentials
