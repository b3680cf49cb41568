//! The process's own log: one line an event on standard error, by a level that can be changed while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How much is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
#[repr(u8)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// The log; clones share its level.
#[derive(Clone, Debug)]
pub struct Log {
    level: Arc<AtomicU8>,
}

impl Log {
    pub fn new(level: Level) -> Log {
        Log { level: Arc::new(AtomicU8::new(level as u8)) }
    }

    pub fn set(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Writes one line when `level` is asked for.
    pub fn say(&self, level: Level, text: impl FnOnce() -> String) {
        if level as u8 <= self.level.load(Ordering::Relaxed) {
            eprintln!("{level:?}: {}", text());
        }
    }
}
