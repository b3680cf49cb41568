//! Token issuers' keys, fetched once per process by the control thread and read by workers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tulle_token::{Cache, Jwks, KeySource, KeyState, Keys, Provider, RemoteKeys};

/// What came of fetching.
#[derive(Clone, Debug)]
pub enum Fetched {
    Keys(Arc<Jwks>),
    /// Nothing that is still good.
    Nothing,
}

/// By server; one that is not here has not answered yet.
pub type KnownKeys = Arc<HashMap<Arc<RemoteKeys>, Fetched>>;

/// Where the control thread writes and workers read.
pub struct KeyBook {
    known: watch::Sender<KnownKeys>,
}

impl Default for KeyBook {
    fn default() -> KeyBook {
        KeyBook { known: watch::channel(KnownKeys::default()).0 }
    }
}

impl KeyBook {
    pub fn subscribe(&self) -> watch::Receiver<KnownKeys> {
        self.known.subscribe()
    }

    /// Replaces what is known of a server; `None` when nobody asks for its keys any more.
    pub fn learn(&self, server: &Arc<RemoteKeys>, fetched: Option<Fetched>) {
        self.known.send_modify(|known| {
            let known = Arc::make_mut(known);
            match fetched {
                Some(fetched) => known.insert(server.clone(), fetched),
                None => known.remove(server),
            };
        });
    }
}

/// One worker's view of the keys, and the tokens that it has found good.
#[derive(Default)]
pub struct WorkerKeys {
    known: RefCell<KnownKeys>,
    changed: Notify,
    pub tokens: RefCell<Cache>,
}

impl WorkerKeys {
    pub fn learn(&self, known: KnownKeys) {
        self.known.replace(known);
        self.changed.notify_waiters();
    }

    /// Waits for the servers' first answers, not longer than fetching may take.
    pub async fn settled(&self, servers: &[Arc<RemoteKeys>]) {
        let limit = servers.iter().map(|server| server.timeout * (server.retries + 1)).max().unwrap_or_default();
        let settling = async {
            loop {
                let changed = self.changed.notified();
                if servers.iter().all(|server| self.known.borrow().contains_key(server)) {
                    return;
                }
                changed.await;
            }
        };
        let _in_time = tokio::time::timeout(limit, settling).await;
    }
}

impl Keys for WorkerKeys {
    fn of(&self, provider: &Provider) -> KeyState {
        match &provider.keys {
            KeySource::Local(keys) => KeyState::Ready(keys.clone()),
            KeySource::Remote(server) => match self.known.borrow().get(server) {
                None => KeyState::Pending,
                Some(Fetched::Keys(keys)) => KeyState::Ready(keys.clone()),
                Some(Fetched::Nothing) => KeyState::Unavailable,
            },
        }
    }
}
