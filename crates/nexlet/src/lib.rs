//! nexlet
