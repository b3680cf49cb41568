//! The gRPC client under the state machine.
