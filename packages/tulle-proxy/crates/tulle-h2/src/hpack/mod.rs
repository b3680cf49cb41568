//! HPACK, header compression (RFC 7541).

mod decode;
mod encode;
mod huffman;
mod statics;
mod table;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub(crate) use decode::Sink;
pub use encode::{BlockWriter, Encoder, Scheme};

/// A header block that cannot be decoded: the connection is lost (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecodable;
