//! What is refused of an update because of what else there is.

use tulle_config::filters::Extension;
use tulle_config::{Secret, Source};
use tulle_core::Str;
use tulle_route::RouteConfig;
use tulle_route::scopes::Scope;

use super::super::references;
use super::Cache;
use crate::decode::{Kind, Resource};

impl Cache {
    /// Refuses what the bootstrap owns, and what a file has and a stream would replace.
    pub fn check(&self, kind: Kind, name: &str) -> Result<(), String> {
        let reference = (kind, Str::from(name));
        match (self.statics.contains(&reference), self.wanted.get(&reference)) {
            (true, _) => Err("is defined by the bootstrap and cannot be replaced".to_owned()),
            (false, Some(Source::File(file))) => Err(format!("comes from {}", file.path)),
            (false, _) => Ok(()),
        }
    }

    /// Refuses settings of a type that a chain does not let its filter have.
    pub fn check_extension(&self, name: &str, extension: &Extension) -> Result<(), String> {
        let listeners = self.config.listeners.values().chain(self.warming_listeners.values());
        let mut filters = listeners.flat_map(|listener| references::discovered(listener));
        match filters.any(|filter| &*filter.name == name && !filter.types.contains(&extension.kind)) {
            true => Err(format!("{} is not a type that the filter may have", extension.kind)),
            false => Ok(()),
        }
    }

    /// Refuses a scope whose key another one has.
    pub fn check_scope(&self, scope: &Scope) -> Result<(), String> {
        match self.config.scopes.get(&scope.key).filter(|known| known.name != scope.name) {
            Some(known) => Err(format!("{:?} has the same key", known.name)),
            None => Ok(()),
        }
    }

    /// Refuses a secret that is another kind of thing than the one it would replace.
    pub fn check_secret(&self, name: &str, secret: &Secret) -> Result<(), String> {
        match self.config.secrets.get(name).map(|known| (&**known, secret)) {
            Some((Secret::Certificate(_), Secret::Validation(_))) => Err("must be a tls_certificate".to_owned()),
            Some((Secret::Validation(_), Secret::Certificate(_))) => Err("must be a validation_context".to_owned()),
            _ => Ok(()),
        }
    }

    /// Refuses route tables that are to be validated and name clusters that are not there.
    pub fn check_clusters(&self, resource: &Resource) -> Result<(), String> {
        let known = |name: &str| self.config.clusters.contains_key(name) || self.warming_clusters.contains_key(name);
        let check = |table: &RouteConfig| match table.validated.iter().find(|(_, name)| !known(name)) {
            Some((path, name)) => Err(format!("{path}: the cluster {name:?} does not exist (validate_clusters)")),
            None => Ok(()),
        };
        match resource {
            Resource::Route(table) => check(table),
            Resource::Listener(listener) => listener.tables().try_for_each(check),
            _ => Ok(()),
        }
    }
}
