//! What of the accepted resources lies in files.

use std::sync::Arc;

use tulle_config::{FileSource, Secret, Source};
use tulle_core::Str;

use super::super::references::Reference;
use super::{Cache, set};
use crate::decode::Kind;

impl Cache {
    /// What is wanted of files.
    pub fn of_files(&self) -> impl Iterator<Item = (&Reference, &FileSource)> {
        self.wanted.iter().filter_map(|(reference, source)| match source {
            Source::File(file) => Some((reference, &**file)),
            Source::Ads(_) => None,
        })
    }

    /// Whether what a file should have has not been looked for yet.
    pub fn is_awaited(&self, reference: &Reference) -> bool {
        self.waiting.contains_key(reference)
    }

    /// What a file should have is not there: who waits goes on without, as with a refused update.
    pub fn missing(&mut self, reference: &Reference) {
        if !self.entries.contains_key(reference) {
            self.waiting.remove(reference);
            self.absent.insert(reference.clone());
        }
    }

    /// Names of a kind that were read from a file.
    pub fn read(&self, kind: Kind) -> Vec<Str> {
        let of_kind = self.entries.iter().filter(|((of, _), entry)| *of == kind && entry.from_file);
        of_kind.map(|((_, name), _)| name.clone()).collect()
    }

    /// Secrets that were discovered and lie in files themselves.
    pub fn secrets(&self) -> impl Iterator<Item = (&Str, &Arc<Secret>)> {
        let statics = &self.statics;
        self.config.secrets.iter().filter(|(name, _)| !statics.contains(&(Kind::Secret, (*name).clone())))
    }

    /// The files of a secret hold something else: it is read again on its next use.
    pub fn renew(&mut self, name: &Str) {
        if let Some(secret) = self.config.secrets.get(name).map(|secret| Arc::new(Secret::clone(secret))) {
            self.changed |= set(&mut self.config.secrets, name.clone(), secret);
        }
    }
}
