//! A connection, or a stream's place on one, lent to one exchange.

use std::rc::Rc;
use std::time::Duration;

use tulle_core::Nanos;
use tulle_http::Stream;
use tulle_http::h1::conn::Connection;
use tulle_http::h2::Link;

use crate::dial::Way;
use crate::h2pool::H2Conn;
use crate::pool::{HostPool, Idle, Life};

/// What the request needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    Http1,
    Http2,
    /// Whichever the endpoint chooses by ALPN.
    Alpn,
    /// Bytes: a connection of its own, never pooled, with the settings' own ALPN.
    Tcp,
}

/// What was lent.
pub enum Lease {
    H1(Box<Connection>, H1Lease),
    H2(H2Lease),
}

/// The place in the pool of an HTTP/1 connection. Dropping it counts the connection as closed.
pub struct H1Lease {
    pub(crate) pool: Rc<HostPool>,
    pub(crate) life: Life,
    pub(crate) max_requests: Option<u32>,
    pub(crate) idle_for: Duration,
}

impl H1Lease {
    /// How long the connection lay in the pool before this request; zero for a new one.
    pub fn idle_for(&self) -> Duration {
        self.idle_for
    }

    /// What logs may ask of the connection.
    pub fn way(&self) -> &Rc<Way> {
        &self.life.way
    }

    /// Whether this request is the connection's last.
    pub fn is_last(&self) -> bool {
        self.max_requests.is_some_and(|max| self.life.used >= max)
    }

    /// Returns the connection after a complete exchange.
    pub fn give_back(self, mut conn: Box<Connection>, now: Nanos) {
        if self.is_last() {
            return;
        }
        conn.idle();
        self.pool.put(Idle { conn, since: now, life: self.life });
    }
}

/// A stream's place on a shared connection.
pub struct H2Lease {
    pub(crate) conn: Rc<H2Conn>,
    pub(crate) clock: Rc<dyn Fn() -> Nanos>,
    pub(crate) idle_for: Duration,
}

impl H2Lease {
    /// How long the connection had no stream before this one; zero for a new or a busy one.
    pub fn idle_for(&self) -> Duration {
        self.idle_for
    }

    /// What logs may ask of the connection.
    pub fn way(&self) -> &Rc<Way> {
        &self.conn.way
    }

    /// The connection.
    pub fn link(&self) -> &Rc<Link> {
        &self.conn.link
    }

    /// The connection turned out to be no good for further requests.
    pub fn condemn(&self) {
        self.conn.closed.set(true);
    }
}

impl Drop for H2Lease {
    fn drop(&mut self) {
        self.conn.active.set(self.conn.active.get() - 1);
        if self.conn.active.get() == 0 {
            self.conn.idle_since.set((self.clock)());
        }
    }
}

/// What ALPN chose on a dialed connection.
pub(crate) fn negotiated_h2(stream: &Stream) -> bool {
    match stream {
        Stream::Dialed(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        _ => false,
    }
}
