//! JSON Web Tokens (RFC 7515–7519): keys, signatures, claims, and what a request must show of them, as pure decisions.
//!
//! Envoy's `jwt_authn` filter says what is asked for; nothing here does I/O. A key is used only with an algorithm of its
//! own kind, so that no header can turn a public key into a shared secret, and `none` is no algorithm.

pub mod cache;
pub mod check;
pub mod claims;
pub mod failure;
pub mod jwks;
pub mod locate;
pub mod provider;
pub mod requirement;
pub mod token;

pub use cache::Cache;
pub use check::{Check, Good, KeyState, Keys};
pub use failure::Failure;
pub use jwks::Jwks;
pub use provider::{Audiences, KeySource, Provider, RemoteKeys};
pub use requirement::{Requirement, UnknownProvider, Wanted};
