//! Where a resource that the configuration names comes from.

use std::sync::Arc;

use tulle_core::Str;

use crate::patience::Patience;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The aggregated stream, whose answer is waited for.
    Ads(Patience),
    File(Arc<FileSource>),
}

/// A file in which a resource is one of others. It is read at once, and again when it changes or another takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileSource {
    pub path: Str,
    /// As the resource calls itself there.
    pub name: Str,
}

impl Source {
    /// How long the resource is waited for.
    pub fn patience(&self) -> Patience {
        match self {
            Source::Ads(patience) => *patience,
            Source::File(_) => Patience::default(),
        }
    }

    /// Of two that wait for the same, the one that waits longer.
    pub fn or_longer(self, other: Source) -> Source {
        if other.patience() > self.patience() { other } else { self }
    }
}
