//! The sidecar, assembled: workers that serve, and what happens to a connection and to a request on one.
//!
//! * [`admin`]: the admin endpoint.
//! * [`control`]: the control thread: xDS, identity, signals.
//! * [`worker`]: one thread's state, configuration swaps, draining.
//! * [`judge`]: what access rules decide of calls in a file, without serving.
//! * [`serve`]: an accepted connection: inspection, filter chain, TLS, HTTP/1.1, HTTP/2 or TCP.
//! * [`exchange`]: one request and its response: route, policies, attempts, delivery, record.

pub mod admin;
pub mod control;
pub mod exchange;
pub mod judge;
pub mod serve;
pub mod worker;
