//! Envoy's metadata: free-form values under a filter's name, on endpoints, clusters, routes and listeners.

use std::collections::BTreeMap;

use crate::Str;

/// A JSON-like value (`google.protobuf.Value`).
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    String(Str),
    List(Vec<Value>),
    Struct(Struct),
}

/// Fields by name, in order of name so that equal values print equally.
pub type Struct = BTreeMap<Str, Value>;

/// `envoy.config.core.v3.Metadata`: one struct per filter name such as `envoy.lb` or `istio`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    pub filters: BTreeMap<Str, Struct>,
}

impl Value {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_struct(&self) -> Option<&Struct> {
        match self {
            Value::Struct(fields) => Some(fields),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }
}

impl Metadata {
    /// The struct kept for `filter`.
    pub fn filter(&self, filter: &str) -> Option<&Struct> {
        self.filters.get(filter)
    }

    /// The value at `path` under `filter`; an empty path finds nothing.
    pub fn lookup(&self, filter: &str, path: &[Str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let start = self.filter(filter)?.get(first)?;
        rest.iter().try_fold(start, |value, key| value.as_struct()?.get(key))
    }

    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_path() {
        let inner = Struct::from([("name".into(), Value::String("backend".into()))]);
        let istio = Struct::from([("service".into(), Value::Struct(inner))]);
        let metadata = Metadata { filters: BTreeMap::from([("istio".into(), istio)]) };
        let path = |keys: &[&str]| keys.iter().map(|key| Str::from(*key)).collect::<Vec<_>>();
        let found = metadata.lookup("istio", &path(&["service", "name"]));
        assert_eq!(found.and_then(Value::as_str), Some("backend"));
        assert!(metadata.lookup("istio", &path(&["service", "absent"])).is_none());
        assert!(metadata.lookup("istio", &[]).is_none());
        assert!(metadata.lookup("envoy.lb", &path(&["service"])).is_none());
    }
}
