//! Matchers of dynamic metadata, where other filters leave what they found out (JWT claims, for instance).

use tulle_core::metadata::Value;
use tulle_core::{Metadata, Str};

use crate::matcher::StringMatcher;

/// `envoy.type.matcher.v3.ValueMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatcher {
    Null,
    /// Exactly this number.
    Number(f64),
    /// A number in `start..end`.
    Range {
        start: f64,
        end: f64,
    },
    String(StringMatcher),
    Bool(bool),
    Present(bool),
    /// A list with at least one item that matches.
    ListHas(Box<ValueMatcher>),
    Or(Box<[ValueMatcher]>),
}

/// `envoy.type.matcher.v3.MetadataMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataMatcher {
    pub filter: Str,
    /// Keys from the filter's struct down to the value; never empty.
    pub path: Box<[Str]>,
    pub value: ValueMatcher,
    pub invert: bool,
}

impl MetadataMatcher {
    pub fn matches(&self, metadata: Option<&Metadata>) -> bool {
        let value = metadata.and_then(|metadata| metadata.lookup(&self.filter, &self.path));
        self.value.matches(value) != self.invert
    }
}

impl ValueMatcher {
    /// On a value, or its absence.
    pub fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (ValueMatcher::Or(any), _) => any.iter().any(|matcher| matcher.matches(value)),
            // As Envoy: what is to be absent is asked for by inverting the matcher.
            (ValueMatcher::Present(wanted), _) => *wanted && value.is_some(),
            (_, None) => false,
            (ValueMatcher::Null, Some(value)) => *value == Value::Null,
            (ValueMatcher::Number(wanted), Some(Value::Number(number))) => number == wanted,
            (ValueMatcher::Range { start, end }, Some(Value::Number(number))) => start <= number && number < end,
            (ValueMatcher::String(matcher), Some(Value::String(text))) => matcher.matches(text.as_bytes()),
            (ValueMatcher::Bool(wanted), Some(Value::Bool(truth))) => truth == wanted,
            (ValueMatcher::ListHas(one), Some(Value::List(items))) => items.iter().any(|item| one.matches(Some(item))),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn values_are_compared_by_kind() {
        let admins = Value::List(vec![Value::String("a".into()), Value::String("admin".into())]);
        let claims = BTreeMap::from([("groups".into(), admins), ("age".into(), Value::Number(30.0))]);
        let metadata = Metadata { filters: BTreeMap::from([("jwt".into(), claims)]) };
        let matcher = |key: &str, value, invert| MetadataMatcher {
            filter: "jwt".into(),
            path: Box::new([key.into()]),
            value,
            invert,
        };
        let is_admin = || ValueMatcher::ListHas(Box::new(ValueMatcher::String(StringMatcher::exact("admin"))));
        let table = [
            (matcher("groups", is_admin(), false), true, false),
            (matcher("groups", is_admin(), true), false, true),
            (matcher("age", ValueMatcher::Range { start: 18.0, end: 31.0 }, false), true, false),
            (matcher("age", ValueMatcher::Number(31.0), false), false, false),
            (matcher("age", is_admin(), false), false, false),
            (matcher("none", ValueMatcher::Present(false), false), false, false),
            (matcher("age", ValueMatcher::Present(false), false), false, false),
            (matcher("age", ValueMatcher::Present(true), true), false, true),
            (matcher("none", ValueMatcher::Or(Box::new([is_admin(), ValueMatcher::Null])), false), false, false),
        ];
        for (matcher, with, without) in table {
            assert_eq!(matcher.matches(Some(&metadata)), with, "{matcher:?}");
            assert_eq!(matcher.matches(None), without, "{matcher:?} without metadata");
        }
    }
}
