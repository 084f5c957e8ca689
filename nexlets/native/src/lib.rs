//! nexlet-native
