//! HTTP on the wire: our own strict HTTP/1.1 codec, our own HTTP/2 engine on a socket, and bodies that pass between them.
//!
//! A message's head is a [`head::RequestHead`] or [`head::ResponseHead`] whichever version it came in. A body is read
//! from and written to a [`side::Side`]; [`side::Pump`] moves one without channels, tasks or unbounded buffers.

pub mod body;
pub mod h1;
pub mod h2;
pub mod head;
pub mod headers;
pub mod side;
pub mod stream;
pub mod throttle;
mod view;

pub use body::{Broken, Piece};
pub use head::{Expect, Framing, Interim, RequestHead, ResponseHead, To, Tunnel, Version};
pub use headers::{Headers, Known};
pub use side::{BodyCopy, Pump, PumpError, Side};
pub use stream::{Dialed, Stream};
