//! What requests have asked of the control plane: written by workers, read by the discovery client.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tulle_core::Str;

/// Names of clusters that requests wait for.
#[derive(Default)]
pub struct Demands {
    names: Mutex<BTreeSet<Str>>,
    asked: Notify,
}

impl Demands {
    /// Asks for a cluster; again for one that was not there when it was last asked for.
    pub fn ask(&self, name: &Str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        self.asked.notify_one();
    }

    /// Waits until something has been asked for.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// What has been asked for since the last call.
    pub fn take(&self) -> BTreeSet<Str> {
        std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
