//! Draining: who is connected, and how they learn that the worker is about to stop.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// The connections of one worker.
#[derive(Default)]
pub struct Drain {
    draining: Cell<bool>,
    wakers: RefCell<Slab<Option<Waker>>>,
    emptied: RefCell<Option<Waker>>,
}

impl Drain {
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.wakers.borrow().len()
    }

    /// Tells every connection, now and later ones, to end after what it is doing.
    pub fn begin(&self) {
        self.draining.set(true);
        for (_, waker) in self.wakers.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Waits until no connection is left.
    pub async fn emptied(&self) {
        std::future::poll_fn(|cx| {
            if self.connections() == 0 {
                return Poll::Ready(());
            }
            *self.emptied.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Registers a connection for as long as the guard lives.
    pub fn enter(self: &Rc<Self>) -> Present {
        let slot = self.wakers.borrow_mut().insert(None);
        Present { drain: self.clone(), slot }
    }
}

/// One open connection.
pub struct Present {
    drain: Rc<Drain>,
    slot: usize,
}

impl Present {
    pub fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    /// Ready once draining has begun.
    pub fn poll_draining(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drain.is_draining() {
            return Poll::Ready(());
        }
        let mut wakers = self.drain.wakers.borrow_mut();
        let place = &mut wakers[self.slot];
        if !place.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *place = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut wakers = self.drain.wakers.borrow_mut();
        wakers.remove(self.slot);
        if wakers.is_empty()
            && let Some(waker) = self.drain.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }
}
