//! Connections to endpoints: per-worker pools, circuit breakers, dialing with TLS.
//!
//! An [`Upstream`] is one cluster on one worker: its balancer and its pools, with plain cells and no locks.
//! [`Upstream::lease`] yields a connection to a picked host; dropping a lease closes what cannot be reused and returns
//! what can.

pub mod breaker;
pub mod dial;
pub mod error;
pub mod h2pool;
pub mod lease;
pub mod pool;
pub mod proxy_header;
mod recent;
pub mod upstream;
mod whose;

pub use breaker::{Admission, Breakers, Overflow};
pub use dial::{Dialer, TlsDial, Way};
pub use error::DialError;
pub use lease::{H1Lease, H2Lease, Lease, Wanted};
pub use proxy_header::Ends;
pub use upstream::{Shared, Terms, Upstream, h2_windows};
pub use whose::{ServerIs, Whose};
