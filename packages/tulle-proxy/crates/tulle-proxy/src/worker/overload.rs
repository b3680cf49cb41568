//! What is shed while the process is overloaded: set by the control thread, looked at by every worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::watch;
use tulle_config::OverloadManager;
use tulle_policy::overload::ActionKind;

/// A share of what comes, in millionths.
#[derive(Debug, Default)]
struct Share(AtomicU32);

impl Share {
    const WHOLE: u32 = 1_000_000;

    fn set(&self, state: f64) {
        self.0.store((state * f64::from(Self::WHOLE)) as u32, Ordering::Relaxed);
    }

    #[inline]
    fn hits(&self, random: impl FnOnce() -> u64) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => false,
            share => share >= Self::WHOLE || random() % u64::from(Self::WHOLE) < u64::from(share),
        }
    }
}

/// The state of the overload manager.
#[derive(Debug)]
pub struct Overload {
    pub manager: OverloadManager,
    requests: Share,
    keep_alive: Share,
    connections: Share,
    /// Whether listeners rest.
    resting: watch::Sender<bool>,
    /// Connections from clients.
    open: AtomicU64,
}

impl Overload {
    pub fn new(manager: OverloadManager) -> Self {
        Overload {
            manager,
            requests: Share::default(),
            keep_alive: Share::default(),
            connections: Share::default(),
            resting: watch::channel(false).0,
            open: AtomicU64::new(0),
        }
    }

    /// Lets an action go so far, from 0 to 1. Memory is given back by whoever calls this.
    pub fn set(&self, kind: ActionKind, state: f64) {
        match kind {
            ActionKind::StopAcceptingRequests => self.requests.set(state),
            ActionKind::DisableKeepAlive => self.keep_alive.set(state),
            ActionKind::RejectIncomingConnections => self.connections.set(state),
            ActionKind::StopAcceptingConnections => {
                let resting = state >= 1.0;
                self.resting.send_if_modified(|known| std::mem::replace(known, resting) != resting);
            }
            ActionKind::ShrinkHeap => {}
        }
    }

    /// Whether a request is refused; `random` are 64 uniform bits.
    #[inline]
    pub fn refuses_request(&self, random: impl FnOnce() -> u64) -> bool {
        self.requests.hits(random)
    }

    /// Whether a response ends its connection.
    #[inline]
    pub fn ends_connection(&self, random: impl FnOnce() -> u64) -> bool {
        self.keep_alive.hits(random)
    }

    /// Whether a connection is closed as it comes.
    pub fn rejects_connection(&self, random: impl FnOnce() -> u64) -> bool {
        self.connections.hits(random)
    }

    /// Whether listeners are to rest, now and whenever that changes.
    pub fn rest(&self) -> watch::Receiver<bool> {
        self.resting.subscribe()
    }

    /// Counts a client's connection until the guard is dropped; `None` at the limit.
    pub fn enter(self: &Arc<Self>) -> Option<Entered> {
        let most = self.manager.max_connections.unwrap_or(u64::MAX);
        let one_more = |open| (open < most).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Entered(self.clone()))
    }
}

/// One of the connections that are open.
#[derive(Debug)]
pub struct Entered(Arc<Overload>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn overload(max_connections: Option<u64>) -> Arc<Overload> {
        let manager = OverloadManager {
            refresh: Duration::from_secs(1),
            max_heap: None,
            max_connections,
            actions: Box::default(),
        };
        Arc::new(Overload::new(manager))
    }

    #[test]
    fn actions_go_as_far_as_they_are_let() {
        let overload = overload(None);
        assert!(!overload.refuses_request(|| 0));
        overload.set(ActionKind::StopAcceptingRequests, 0.25);
        assert!(overload.refuses_request(|| 249_999) && !overload.refuses_request(|| 250_000));
        overload.set(ActionKind::StopAcceptingRequests, 1.0);
        assert!(overload.refuses_request(|| u64::MAX) && !overload.ends_connection(|| 0));
        let rest = overload.rest();
        overload.set(ActionKind::StopAcceptingConnections, 0.9);
        assert!(!*rest.borrow());
        overload.set(ActionKind::StopAcceptingConnections, 1.0);
        assert!(*rest.borrow());
    }

    #[test]
    fn no_more_connections_than_allowed() {
        let overload = overload(Some(1));
        let first = overload.enter();
        assert!(first.is_some() && overload.enter().is_none());
        drop(first);
        assert!(overload.enter().is_some());
    }
}
