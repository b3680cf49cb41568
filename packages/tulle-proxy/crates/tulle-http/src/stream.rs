//! The byte stream under a connection: plain TCP, or TLS from either end, told apart without a virtual call.

use std::any::Any;
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connected stream. TLS state is large, so it is boxed; a plain stream stays small.
pub enum Stream {
    Tcp(TcpStream),
    Accepted(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    Dialed(Box<Dialed>),
}

/// A TLS connection to a server, and what somebody keeps about it for as long as its socket is open.
pub struct Dialed {
    // Fields are dropped in this order: nobody is told of a socket that is closed already.
    _kept: Option<Box<dyn Any>>,
    tls: tokio_rustls::client::TlsStream<TcpStream>,
}

impl Dialed {
    pub fn new(tls: tokio_rustls::client::TlsStream<TcpStream>, kept: Option<Box<dyn Any>>) -> Dialed {
        Dialed { _kept: kept, tls }
    }
}

impl Deref for Dialed {
    type Target = tokio_rustls::client::TlsStream<TcpStream>;

    fn deref(&self) -> &Self::Target {
        &self.tls
    }
}

impl Stream {
    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Tcp(s) => s,
            Stream::Accepted(s) => s.get_ref().0,
            Stream::Dialed(s) => s.get_ref().0,
        }
    }

    pub fn is_tls(&self) -> bool {
        !matches!(self, Stream::Tcp(_))
    }
}

macro_rules! each {
    ($self:expr, $s:ident => $e:expr) => {
        match $self.get_mut() {
            Stream::Tcp($s) => $e,
            Stream::Accepted($s) => $e,
            Stream::Dialed(dialed) => {
                let $s = &mut dialed.tls;
                $e
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}
