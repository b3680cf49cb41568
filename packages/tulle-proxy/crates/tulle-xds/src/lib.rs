//! Envoy's configuration protocol: protobuf in, typed configuration out. No protobuf type leaves this crate.
//!
//! - [`json`]: Envoy's YAML and JSON to messages and back (bootstrap files, `/config_dump`).
//! - [`decode`]: messages to `tulle-config`, collecting every error with its field's path.
//! - [`ads`]: the delta protocol as a state machine without I/O, and the cache that warms and publishes.
//! - [`driver`]: the thin gRPC client under it; [`keeping`]: what of it outlives the process.
//! - [`authz`], [`limits`]: what authorizers and rate-limit services are asked and answer.
//! - [`bootstrap`]: a bootstrap file to what the process starts with.

pub mod ads;
pub mod authz;
pub mod bootstrap;
pub mod decode;
pub mod demands;
pub mod driver;
pub mod files;
mod grpc;
pub mod json;
pub mod keeping;
pub mod limits;
mod overload;
mod runtime;
pub mod stream;
