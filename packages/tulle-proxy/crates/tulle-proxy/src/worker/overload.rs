//! What is shed while the process is overloaded: set by the control thread, looked at by every worker.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;
use tulle_config::OverloadManager;
use tulle_policy::overload::{ActionKind, ShedPoint};

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
    shed: [Share; ShedPoint::COUNT],
    /// Whether listeners rest.
    resting: watch::Sender<bool>,
}

impl Overload {
    pub fn new(manager: OverloadManager) -> Self {
        Overload {
            manager,
            requests: Share::default(),
            keep_alive: Share::default(),
            connections: Share::default(),
            shed: Default::default(),
            resting: watch::channel(false).0,
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
            ActionKind::Shed(point) => self.shed[point as usize].set(state),
            ActionKind::ShrinkHeap => {}
        }
    }

    /// Whether a request is refused; `random` are 64 uniform bits.
    #[inline]
    pub fn refuses_request(&self, random: impl FnOnce() -> u64) -> bool {
        self.requests.hits(random)
    }

    /// Whether what passes a load-shed point is refused.
    #[inline]
    pub fn sheds(&self, point: ShedPoint, random: impl FnOnce() -> u64) -> bool {
        self.shed[point as usize].hits(random)
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn actions_go_as_far_as_they_are_let() {
        let manager = OverloadManager {
            refresh: Duration::from_secs(1),
            monitors: Box::default(),
            max_connections: None,
            actions: Box::default(),
        };
        let overload = Overload::new(manager);
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
}
