//! Resources that lie in files: which files are named, and what becomes of what they hold.
//!
//! A file is the whole of what it is asked for: the listeners and clusters that it does not have any more go. Of other
//! kinds it may hold more than is wanted, and what it does not have any more stays as it was, as in Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use tulle_config::Secret;
use tulle_config::tls::{DataSource, TrustSource};
use tulle_core::{Nanos, Str};

use super::cache::Entry;
use super::references::Reference;
use super::{Client, Handled, join, saved};
use crate::decode::{self, Kind, Resource};

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub version: String,
    pub resources: Vec<Any>,
}

impl Client {
    /// The files that are named, and whether something waits for what they hold.
    pub fn files(&self) -> BTreeMap<Str, bool> {
        let mut found = BTreeMap::new();
        for (kind, path) in &self.whole {
            *found.entry(path.clone()).or_default() |= self.cache.is_unanswered(*kind);
        }
        for (reference, file) in self.cache.of_files() {
            *found.entry(file.path.clone()).or_default() |= self.cache.is_awaited(reference);
        }
        found
    }

    /// The files in which discovered secrets have their material, and which secrets those are.
    pub fn material(&self) -> BTreeMap<Arc<Path>, BTreeSet<Str>> {
        let mut found: BTreeMap<Arc<Path>, BTreeSet<Str>> = BTreeMap::new();
        for (name, secret) in self.cache.secrets() {
            for data in sources(secret) {
                if let DataSource::File(path) = data {
                    found.entry(path.clone()).or_default().insert(name.clone());
                }
            }
        }
        found
    }

    /// The material of these secrets is to be read again; returns what is wrong with that of others, which is not.
    pub fn renew(&mut self, secrets: &BTreeSet<Str>) -> Vec<String> {
        let mut refused = Vec::new();
        for name in secrets {
            let secret = self.cache.secrets().find(|(known, _)| *known == name).map(|(_, secret)| secret.clone());
            let Some(secret) = secret else { continue };
            match self.usable(name, &Resource::Secret(name.clone(), secret)) {
                Ok(()) => self.cache.renew(name),
                Err(reason) => refused.push(format!("{name}: {reason}")),
            }
        }
        refused
    }

    /// Takes what a file holds, or why that cannot be told: what was there before stays.
    pub fn read(&mut self, path: &str, content: Result<Content, String>, now: Nanos) -> Handled {
        let mut handled =
            Handled { type_url: path.to_owned(), accepted: 0, removed: 0, refused: Vec::new(), warnings: Vec::new() };
        let content = content.unwrap_or_else(|reason| {
            handled.refused.push(reason);
            Content::default()
        });
        let readable = handled.refused.is_empty();
        let whole: Vec<Kind> = self.whole.iter().filter(|(_, of)| **of == *path).map(|(kind, _)| *kind).collect();
        for kind in whole {
            if readable {
                self.take_whole(kind, &content, &mut handled, now);
            }
            self.cache.answered(kind);
        }
        let wanted = self.cache.of_files().filter(|(_, file)| &*file.path == path);
        let wanted: Vec<(Reference, Str)> =
            wanted.map(|(reference, file)| (reference.clone(), file.name.clone())).collect();
        for (reference, name) in wanted {
            self.take_one(&reference, &name, &content, &mut handled, now);
        }
        self.settle(now);
        handled
    }

    fn take_whole(&mut self, kind: Kind, content: &Content, handled: &mut Handled, now: Nanos) {
        let mut gone: BTreeSet<Str> = self.cache.read(kind).into_iter().collect();
        for (at, body) in content.resources.iter().enumerate() {
            let taken = match body.type_url == kind.type_url() {
                true => decode::resource(kind, body).map_err(|findings| join(&findings)),
                false => Err(format!("{} is not {}", body.type_url, kind.type_url())),
            };
            let taken = taken.and_then(|(value, warnings)| {
                self.cache.check(kind, value.name())?;
                self.usable(value.name(), &value)?;
                Ok((value, warnings))
            });
            match taken {
                Ok((value, warnings)) => {
                    gone.remove(value.name());
                    let name = value.name().clone();
                    handled.warnings.extend(warnings.iter().map(|warning| format!("{name}: {warning}")));
                    self.keep_read((kind, name), value, (body, &content.version), now);
                    handled.accepted += 1;
                }
                Err(reason) => {
                    // Whichever it was to replace stays.
                    gone.clear();
                    handled.refused.push(format!("resources[{at}]: {reason}"));
                }
            }
        }
        handled.removed += gone.len();
        gone.iter().for_each(|name| self.cache.remove(kind, name));
    }

    fn take_one(&mut self, key: &Reference, name: &str, content: &Content, handled: &mut Handled, now: Nanos) {
        let kind = key.0;
        for (at, body) in content.resources.iter().enumerate().filter(|(_, body)| body.type_url == kind.type_url()) {
            match decode::resource(kind, body) {
                Ok((value, warnings)) if &**value.name() == name => {
                    if let Err(reason) = self.usable(&key.1, &value) {
                        handled.refused.push(format!("resources[{at}]: {reason}"));
                        break;
                    }
                    handled.warnings.extend(warnings.iter().map(|warning| format!("{name}: {warning}")));
                    self.keep_read(key.clone(), value, (body, &content.version), now);
                    handled.accepted += 1;
                    return;
                }
                Ok(_) => {}
                Err(findings) => handled.refused.push(format!("resources[{at}]: {}", join(&findings))),
            }
        }
        if handled.refused.is_empty() {
            handled.refused.push(format!("has no {} named {name:?}", decode::type_name(kind.type_url())));
        }
        self.cache.missing(key);
    }

    fn keep_read(&mut self, (kind, key): Reference, value: Resource, (body, version): (&Any, &str), now: Nanos) {
        let hash = saved::hash(body);
        if !self.cache.holds(kind, &key, hash) {
            self.cache.insert_as(kind, key, value, Entry::new(version.to_owned(), hash, body, now).of_file());
        }
    }
}

fn sources(secret: &Secret) -> Vec<&DataSource> {
    match secret {
        Secret::Certificate(pair) => vec![&pair.chain, &pair.key],
        Secret::Validation(validation) => match &validation.trust {
            Some(TrustSource::Inline(data)) => vec![data],
            _ => Vec::new(),
        },
    }
}
