//! HTTP/2 over our own engine: the connection with its socket, one stream as a body to read and to write, and heads.

pub mod arrived;
pub mod head;
pub mod link;
pub mod pulse;
pub mod stream;

pub use link::Link;
pub use pulse::{Pulse, Rhythm};
pub use stream::H2Stream;
pub use tulle_h2::{Config, Malformed, Reason};
