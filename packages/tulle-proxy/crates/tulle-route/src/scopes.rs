//! Scoped routes: parts of a request's headers make a key, and the key chooses the route configuration
//! (`envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes`).

use std::sync::Arc;

use tulle_core::hash::FastMap;
use tulle_core::{RequestView, Str};

use crate::config::RouteConfig;

/// The values that a scope's key has, one for each fragment.
pub type ScopeKey = Box<[Str]>;

/// How a request's key is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeKeyBuilder {
    pub fragments: Box<[Fragment]>,
}

/// One part of the key, out of the first value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// In lower case; pseudo-headers too.
    pub header: Str,
    /// What separates the value's elements; empty for a value that is one element.
    pub separator: Str,
    pub pick: Pick,
}

/// Which element counts, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The element at this place, from 0.
    Index(usize),
    /// What follows `separator` in the first element whose beginning is `key`.
    Value { key: Str, separator: Str },
}

/// One scope (`envoy.config.route.v3.ScopedRouteConfiguration`).
#[derive(Clone, Debug)]
pub struct Scope {
    pub name: Str,
    pub key: ScopeKey,
    pub routes: ScopeRoutes,
}

/// Where a scope's routes are.
#[derive(Clone, Debug)]
pub enum ScopeRoutes {
    /// A route configuration received by this name.
    Named(Str),
    Inline(Arc<RouteConfig>),
}

/// Scopes by their keys.
#[derive(Clone, Debug, Default)]
pub struct Scopes {
    by_key: FastMap<ScopeKey, Arc<Scope>>,
}

impl ScopeKeyBuilder {
    /// The request's key; `None` when a fragment finds nothing in it.
    pub fn key<R: RequestView + ?Sized>(&self, request: &R) -> Option<ScopeKey> {
        self.fragments.iter().map(|fragment| fragment.find(request).map(Str::from)).collect()
    }
}

impl Fragment {
    fn find<'r, R: RequestView + ?Sized>(&self, request: &'r R) -> Option<&'r str> {
        let value = std::str::from_utf8(request.field(&self.header)?).ok()?;
        match &self.pick {
            Pick::Index(place) if self.separator.is_empty() => (*place == 0).then_some(value),
            Pick::Index(place) => value.split(&*self.separator).nth(*place),
            Pick::Value { key, separator } if self.separator.is_empty() => value_of(value, key, separator),
            Pick::Value { key, separator } => {
                value.split(&*self.separator).find_map(|element| value_of(element, key, separator))
            }
        }
    }
}

fn value_of<'e>(element: &'e str, key: &str, separator: &str) -> Option<&'e str> {
    element.split_once(separator).filter(|(found, _)| *found == key).map(|(_, value)| value)
}

impl Scopes {
    /// # Errors
    /// The names of two scopes that have one key.
    pub fn new(scopes: impl IntoIterator<Item = Arc<Scope>>) -> Result<Scopes, (Str, Str)> {
        let mut by_key: FastMap<ScopeKey, Arc<Scope>> = FastMap::default();
        for scope in scopes {
            if let Some(earlier) = by_key.insert(scope.key.clone(), scope.clone()) {
                return Err((earlier.name.clone(), scope.name.clone()));
            }
        }
        Ok(Scopes { by_key })
    }

    pub fn get(&self, key: &ScopeKey) -> Option<&Arc<Scope>> {
        self.by_key.get(key)
    }

    /// The names of route configurations that scopes refer to.
    pub fn named(&self) -> impl Iterator<Item = &Str> {
        self.by_key.values().filter_map(|scope| match &scope.routes {
            ScopeRoutes::Named(name) => Some(name),
            ScopeRoutes::Inline(_) => None,
        })
    }
}
