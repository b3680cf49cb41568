//! The delta protocol.
