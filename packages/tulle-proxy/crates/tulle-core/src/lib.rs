//! The vocabulary every other crate shares: text, time, randomness, addresses, identities, flags, errors, header views.
//!
//! Nothing here does I/O or reads a clock; time and randomness are values that callers pass in.

pub mod address;
pub mod cidr;
pub mod cookie;
pub mod error;
pub mod flags;
pub mod hash;
pub mod headers;
pub mod identity;
pub mod metadata;
pub mod percent;
pub mod recent;
pub mod rng;
pub mod text;
pub mod time;

pub use address::Address;
pub use cidr::Cidr;
pub use error::{Error, ErrorKind, Retry, Side};
pub use flags::ResponseFlags;
pub use hash::xxh64;
pub use headers::{Headers, HeadersMut, RequestView};
pub use identity::{PeerIdentity, SpiffeId};
pub use metadata::Metadata;
pub use percent::FractionalPercent;
pub use rng::Rng;
pub use text::{Interner, Str};
pub use time::{Nanos, UnixNanos};
