//! Accepting connections: sockets, what their first bytes say, and which filter chain takes them.
//!
//! * [`socket`] binds and accepts (SO_REUSEPORT, NODELAY, pausing when descriptors run out).
//! * [`inspect`] reads the first bytes once into a buffer that travels on as [`Prefixed`], and tells TLS (SNI, ALPN),
//!   HTTP and PROXY protocol from each other; [`client_hello`], [`http_detect`], [`proxy_protocol`] are its pure parsers.
//! * [`chain`] picks the filter chain as Envoy does.
//! * [`set`] keeps one worker's listeners equal to the configuration: binds new ones, drains removed ones.
//!
//! What happens on an accepted connection (TLS handshake, HTTP, TCP proxying) is the caller's.

pub mod chain;
pub mod client_hello;
pub mod http_detect;
pub mod inspect;
pub mod prefixed;
pub mod proxy_protocol;
pub mod set;
pub mod socket;

pub use chain::{ConnectionFacts, select_chain};
pub use inspect::{InspectError, Inspected, inspect};
pub use prefixed::Prefixed;
pub use set::{Accepted, ListenerSet};
