//! HTTP/2 connections of one host: requests share them; a new one is made when streams run out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

use tulle_core::Nanos;
use tulle_http::h2::Link;

use crate::dial::Way;
use crate::whose::Whose;

/// One connection. A task of its own drives the socket and marks it closed when it ends.
pub(crate) struct H2Conn {
    pub link: Rc<Link>,
    pub active: Cell<u32>,
    /// Requests carried so far.
    pub used: Cell<u32>,
    pub made: Nanos,
    pub idle_since: Cell<Nanos>,
    /// No further requests: GOAWAY, failure, or its share of requests is used up.
    pub closed: Cell<bool>,
    /// Whose connection it is, where that makes a difference.
    pub client: Option<Box<Whose>>,
    pub way: Rc<Way>,
}

impl H2Conn {
    fn is_for(&self, client: Option<&Whose>) -> bool {
        self.client.as_deref() == client
    }

    /// Whether another stream may be opened at once.
    pub fn has_room(&self) -> bool {
        !self.closed.get() && self.link.has_room()
    }
}

impl Drop for H2Conn {
    /// Neither the pool nor a request holds it any more.
    fn drop(&mut self) {
        self.link.retire();
    }
}

/// The connections, and whoever waits for one being made.
#[derive(Default)]
pub struct H2Pool {
    pub(crate) conns: RefCell<Vec<Rc<H2Conn>>>,
    dialing: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl H2Pool {
    /// A connection, of this client where the endpoint was told of one, with room for a stream: the least busy one for
    /// which `keep` (of when it fell idle, unless it is busy, and when it was made) is true.
    pub(crate) fn take(
        &self,
        client: Option<&Whose>,
        keep: impl Fn(Option<Nanos>, Nanos) -> bool,
    ) -> Option<Rc<H2Conn>> {
        let mut conns = self.conns.borrow_mut();
        conns.retain(|c| !c.closed.get() && c.link.is_open());
        let idle_since = |c: &H2Conn| (c.active.get() == 0).then(|| c.idle_since.get());
        let fits = |c: &&Rc<H2Conn>| c.is_for(client) && c.has_room() && keep(idle_since(c), c.made);
        conns.iter().filter(fits).min_by_key(|c| c.active.get()).cloned()
    }

    /// Whether a connection is being made.
    pub(crate) fn is_dialing(&self) -> bool {
        self.dialing.get()
    }

    /// Waits until the dial in progress has ended, either way.
    pub(crate) async fn dialed(&self) {
        std::future::poll_fn(|cx| {
            if !self.dialing.get() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn dial_begins(&self) -> DialGuard<'_> {
        self.dialing.set(true);
        DialGuard { pool: self }
    }

    pub(crate) fn sweep(&self, keep: impl Fn(Nanos, Nanos) -> bool) {
        let live = |c: &Rc<H2Conn>| !c.closed.get() && (c.active.get() > 0 || keep(c.idle_since.get(), c.made));
        self.conns.borrow_mut().retain(live);
    }

    pub(crate) fn drain(&self) {
        for conn in self.conns.borrow_mut().drain(..) {
            conn.closed.set(true);
        }
    }
}

/// Wakes everyone waiting when the dial ends, also when its task was cancelled.
pub(crate) struct DialGuard<'p> {
    pool: &'p H2Pool,
}

impl Drop for DialGuard<'_> {
    fn drop(&mut self) {
        self.pool.dialing.set(false);
        self.pool.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}
