//! The connections of one host: idle HTTP/1 ones, newest first, and its HTTP/2 ones.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use tulle_core::Nanos;
use tulle_http::h1::conn::Connection;

use crate::breaker::Admission;
use crate::dial::Way;
use crate::h2pool::H2Pool;
use crate::whose::Whose;

/// Requests that wait for a connection to be returned or closed.
#[derive(Default)]
pub(crate) struct Waiters(RefCell<VecDeque<Waker>>);

impl Waiters {
    pub fn wake_one(&self) {
        if let Some(waker) = self.0.borrow_mut().pop_front() {
            waker.wake();
        }
    }

    /// Waits for one wake-up; the caller looks again afterwards.
    pub async fn wait(&self) {
        let mut queued = false;
        std::future::poll_fn(|cx| {
            if queued {
                return Poll::Ready(());
            }
            queued = true;
            self.0.borrow_mut().push_back(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// One open connection, as the breaker and the host's pool count it.
pub(crate) struct Counted {
    pub _admission: Admission,
    pub pool: Weak<HostPool>,
    pub waiters: Rc<Waiters>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.open.set(pool.open.get() - 1);
        }
        self.waiters.wake_one();
    }
}

/// An HTTP/1 connection that waits for its next request.
pub(crate) struct Idle {
    pub conn: Box<Connection>,
    pub since: Nanos,
    pub life: Life,
}

/// What a connection's age is measured by.
pub(crate) struct Life {
    pub made: Nanos,
    /// Requests carried so far.
    pub used: u32,
    pub counted: Counted,
    /// Whose connection it is, where that makes a difference.
    pub client: Option<Box<Whose>>,
    pub way: Rc<Way>,
}

impl Life {
    fn is_for(&self, client: Option<&Whose>) -> bool {
        self.client.as_deref() == client
    }
}

/// One host's pool.
#[derive(Default)]
pub struct HostPool {
    pub(crate) idle: RefCell<Vec<Idle>>,
    pub(crate) h2: H2Pool,
    /// Connections of any kind, busy ones too.
    pub(crate) open: Cell<u32>,
    /// The host left the cluster: nothing is kept any more.
    pub(crate) closed: Cell<bool>,
}

impl HostPool {
    /// The newest idle connection, of this client where the endpoint was told of one, that is still good: for which `keep`
    /// (as in `sweep`) is true and that the peer has not closed. Others met on the way are closed.
    pub(crate) fn take(&self, client: Option<&Whose>, keep: impl Fn(Nanos, Nanos) -> bool) -> Option<Idle> {
        loop {
            let mut idle = self.idle.borrow_mut();
            let at = idle.iter().rposition(|each| each.life.is_for(client))?;
            let mut found = idle.remove(at);
            drop(idle);
            if keep(found.since, found.life.made) && found.conn.is_fresh() {
                return Some(found);
            }
        }
    }

    /// Closes the connection that has been idle for longest; false when none is.
    pub(crate) fn give_up_one(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let oldest = if idle.is_empty() { None } else { Some(idle.remove(0)) };
        drop(idle);
        oldest.is_some()
    }

    pub(crate) fn put(&self, idle: Idle) {
        if self.closed.get() {
            return;
        }
        let waiters = idle.life.counted.waiters.clone();
        self.idle.borrow_mut().push(idle);
        waiters.wake_one();
    }

    /// Closes idle connections for which `keep` (of when it fell idle, and when it was made) is false, and those that
    /// the peer closed.
    pub fn sweep(&self, keep: impl Fn(Nanos, Nanos) -> bool) {
        let stale = |idle: &mut Idle| !keep(idle.since, idle.life.made) || !idle.conn.is_fresh();
        let dropped: Vec<Idle> = self.idle.borrow_mut().extract_if(.., stale).collect();
        drop(dropped);
        self.h2.sweep(keep);
    }

    /// Closes what is idle and lets what is busy finish.
    pub fn drain(&self) {
        self.closed.set(true);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        drop(idle);
        self.h2.drain();
    }

    pub fn is_unused(&self) -> bool {
        self.open.get() == 0
    }
}
