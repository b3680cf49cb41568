//! Tokens that were found good, so that a token that comes again costs a hash and no signature check.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use tulle_core::Str;
use tulle_core::metadata::Metadata;

use crate::claims::Registered;
use crate::jwks::Jwks;
use crate::provider::Provider;
use crate::token::Token;

/// Tokens kept per generation; there are two.
const KEPT: usize = 128;
/// A longer token is not kept, in bytes.
const LONGEST: usize = 4096;

/// A token that was verified, and what it brings.
#[derive(Debug)]
pub struct Accepted {
    pub registered: Registered,
    pub headers: Vec<(Str, String)>,
    pub metadata: Option<Arc<Metadata>>,
}

impl Accepted {
    pub fn new(provider: &Provider, token: Token<'_>) -> Accepted {
        Accepted {
            headers: provider.output.headers(&token),
            metadata: provider.output.metadata(&token),
            registered: token.registered,
        }
    }
}

type Digest = [u8; 32];

struct Entry {
    /// Held, so that its address stands for it.
    provider: Arc<Provider>,
    keys: Arc<Jwks>,
    accepted: Arc<Accepted>,
}

/// Bounded; what has not been used for a generation goes first. Holds digests and claims, no token.
#[derive(Default)]
pub struct Cache {
    young: HashMap<(usize, Digest), Entry>,
    old: HashMap<(usize, Digest), Entry>,
    pub hits: u64,
    pub misses: u64,
}

impl Cache {
    /// What was accepted as `text` under this provider and these keys. Whether it has expired is the caller's to ask.
    pub fn get(&mut self, provider: &Arc<Provider>, keys: &Arc<Jwks>, text: &str) -> Option<Arc<Accepted>> {
        let key = key(provider, text);
        if let Some(entry) = self.old.remove(&key) {
            self.put(key, entry);
        }
        let found = self.young.get(&key).filter(|entry| Arc::ptr_eq(&entry.keys, keys));
        if found.is_some() {
            self.hits += 1;
        } else {
            self.misses += 1;
        }
        found.map(|entry| entry.accepted.clone())
    }

    pub fn insert(&mut self, provider: &Arc<Provider>, keys: &Arc<Jwks>, text: &str, accepted: &Arc<Accepted>) {
        if text.len() <= LONGEST {
            let entry = Entry { provider: provider.clone(), keys: keys.clone(), accepted: accepted.clone() };
            self.put(key(provider, text), entry);
        }
    }

    fn put(&mut self, key: (usize, Digest), entry: Entry) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        debug_assert_eq!(key.0, Arc::as_ptr(&entry.provider) as usize);
        self.young.insert(key, entry);
    }

    /// Forgets what belongs to configurations that are no longer in force.
    pub fn sweep(&mut self) {
        for tokens in [&mut self.young, &mut self.old] {
            tokens.retain(|_, entry| Arc::strong_count(&entry.provider) > 1);
        }
    }

    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn key(provider: &Arc<Provider>, text: &str) -> (usize, Digest) {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    (Arc::as_ptr(provider) as usize, hash)
}
