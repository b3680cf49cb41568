//! Keeps the accepted configuration on disk, and starts from it when the control plane does not answer.
//!
//! Written off the data path: a while after a change, so that a burst of changes costs one file. Read once, and only when
//! the control plane cannot be reached or says nothing: what it says is newer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ads::saved::{Lost, Unsaved};
use crate::driver::{Connect, Driver, Event};

/// Where the configuration is kept. Both may block.
pub trait Disk: Send + Sync {
    /// What was written last; `None` when nothing was.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn load(&self) -> Result<Option<Vec<u8>>, String>;

    /// Replaces it.
    ///
    /// # Errors
    /// Why it could not be written; what was there before still is.
    fn save(&self, content: Vec<u8>) -> Result<(), String>;
}

/// How the configuration is kept.
pub struct Keeping {
    disk: Arc<dyn Disk>,
    /// How long the control plane may be silent before what was kept is used.
    pub patience: Duration,
    /// From a change to its writing, and from one writing to the next.
    pub pause: Duration,
    changed: Notify,
    lost: Notify,
    /// When the control plane last said anything, or was last dialed.
    heard: Mutex<Instant>,
    tried: AtomicBool,
}

/// Between looks whether there is an identity yet.
const IDENTITY_LOOK: Duration = Duration::from_millis(20);
/// After a failure to write.
const RETRY: Duration = Duration::from_secs(30);

impl Keeping {
    pub fn new(disk: Arc<dyn Disk>) -> Keeping {
        Keeping {
            disk,
            patience: Duration::from_secs(3),
            pause: Duration::from_millis(500),
            changed: Notify::new(),
            lost: Notify::new(),
            heard: Mutex::new(Instant::now()),
            tried: AtomicBool::new(false),
        }
    }

    /// The control plane was dialed or has said something.
    pub(crate) fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Something may have to be written.
    pub(crate) fn poke(&self) {
        self.changed.notify_one();
    }

    fn deadline(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) + self.patience
    }
}

/// Why nothing was written.
enum Unwritten {
    Lost(Lost),
    Failed(String),
}

fn write(disk: &dyn Disk, unsaved: &Unsaved) -> Result<usize, Unwritten> {
    let before = match unsaved.needs_before() {
        true => disk.load().ok().flatten(),
        false => None,
    };
    let content = unsaved.encode(before.as_deref()).map_err(Unwritten::Lost)?;
    let size = content.len();
    disk.save(content).map_err(Unwritten::Failed)?;
    Ok(size)
}

impl<C: Connect> Driver<C> {
    /// Writes what is to be kept, for ever.
    pub(crate) async fn keep(&self) {
        let Some(keeping) = &self.keeping else { return std::future::pending().await };
        loop {
            keeping.changed.notified().await;
            tokio::time::sleep(keeping.pause).await;
            let Some(unsaved) = self.client().unsaved() else { continue };
            let disk = keeping.disk.clone();
            let writing = tokio::task::spawn_blocking(move || {
                let written = write(&*disk, &unsaved);
                (unsaved, written)
            });
            match writing.await {
                Ok((_, Ok(size))) => (self.report)(Event::Saved { size }),
                Ok((unsaved, Err(Unwritten::Lost(lost)))) => {
                    self.client().put_back(unsaved);
                    self.client().ask_again();
                    (self.report)(Event::NotSaved(format!("{lost}: everything is asked for again")));
                    keeping.lost.notify_one();
                }
                Ok((unsaved, Err(Unwritten::Failed(reason)))) => {
                    self.client().put_back(unsaved);
                    (self.report)(Event::NotSaved(reason));
                    tokio::time::sleep(RETRY).await;
                    keeping.poke();
                }
                Err(panicked) => (self.report)(Event::NotSaved(panicked.to_string())),
            }
        }
    }

    /// Returns when what was written is lost, so that a new stream is needed.
    pub(crate) async fn lost(&self) {
        match &self.keeping {
            Some(keeping) => keeping.lost.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Returns when the control plane has been silent for too long and there may be something to use instead.
    pub(crate) async fn impatience(&self) {
        let Some(keeping) = &self.keeping else { return std::future::pending().await };
        while !self.connect.identified() {
            tokio::time::sleep(IDENTITY_LOOK).await;
            keeping.heard();
        }
        while keeping.deadline() > Instant::now() {
            tokio::time::sleep_until(keeping.deadline()).await;
        }
        if keeping.tried.load(Ordering::Relaxed) || self.client().complete() {
            std::future::pending().await
        }
    }

    /// What was kept is not for a proxy that the control plane turns away.
    pub(crate) fn turned_away(&self) {
        if let Some(keeping) = &self.keeping {
            keeping.tried.store(true, Ordering::Relaxed);
        }
    }

    /// Uses what was kept, when the control plane has not given a whole configuration.
    pub(crate) fn fall_back(&self) {
        let Some(keeping) = &self.keeping else { return };
        if self.client().complete() || !self.connect.identified() || keeping.tried.swap(true, Ordering::Relaxed) {
            return;
        }
        match keeping.disk.load() {
            Ok(None) => {}
            Ok(Some(content)) => {
                let restored = self.client().restore(&content, self.now());
                match restored {
                    Ok(resources) => {
                        self.publish();
                        (self.report)(Event::Restored { resources });
                    }
                    Err(reason) => (self.report)(Event::NotRestored(reason)),
                }
            }
            Err(reason) => (self.report)(Event::NotRestored(reason)),
        }
    }
}
