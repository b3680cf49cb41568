//! An HTTP/2 engine (RFC 9113, RFC 7541) without sockets, tasks or clocks: bytes in, streams' events out, bytes out.
//!
//! Whoever owns the socket hands what was read to [`Engine::receive`] and sends what [`Engine::output`] holds. Heads are
//! decoded into, and encoded from, whatever form the caller keeps them in ([`Fields`], [`BlockWriter`]).

mod engine;
mod fields;
mod flood;
mod frame;
mod hpack;
mod reason;
mod settings;
mod store;
mod stream;

pub use engine::{Config, Engine, HeadKind};
pub use fields::{Fields, Malformed, Pseudo};
pub use flood::Clock;
pub use frame::PREFACE;
pub use hpack::{BlockWriter, Scheme};
pub use reason::Reason;
pub use store::Key;
pub use stream::{Body, Gone};
