//! nexlet-js
