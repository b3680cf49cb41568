//! What bodies are made of while they pass, and the ways in which reading or writing one fails.

use bytes::Bytes;
use tulle_h2::Reason;

use crate::h1::Refused;
use crate::headers::Headers;

/// The next part of a body.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Bytes; `last` when the body ends with them.
    Data { data: Bytes, last: bool },
    /// The body ended with these trailers.
    Trailers(Box<Headers>),
    /// The body ended.
    End,
}

/// Why a message did not come, or did not go, to its end.
#[derive(Debug)]
pub enum Broken {
    /// The peer closed the connection (or the h2 connection failed) in the middle.
    Closed,
    /// The peer reset the stream, or the connection with a reason.
    Reset(Reason),
    /// The peer's bytes are not a well-formed message.
    Refused(Refused),
    /// The socket failed.
    Io(std::io::ErrorKind),
}

impl From<std::io::Error> for Broken {
    fn from(e: std::io::Error) -> Broken {
        Broken::Io(e.kind())
    }
}

impl From<Refused> for Broken {
    fn from(e: Refused) -> Broken {
        Broken::Refused(e)
    }
}
