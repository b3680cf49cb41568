//! The runtime: values by key that override what configuration gives as defaults (`layered_runtime`, static layers).

use std::collections::BTreeMap;

use tulle_core::metadata::Value;
use tulle_core::{FractionalPercent, Str};

/// Values by key; nested structures have their keys joined by dots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runtime {
    pub values: BTreeMap<Str, Value>,
}

impl Runtime {
    /// A whole number that is not negative.
    pub fn integer(&self, key: &str) -> Option<u64> {
        match self.values.get(key)? {
            Value::Number(number) if *number >= 0.0 && number.fract() == 0.0 => Some(*number as u64),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub fn truth(&self, key: &str) -> Option<bool> {
        match self.values.get(key)? {
            Value::Bool(truth) => Some(*truth),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A fraction, or a whole number of percent.
    pub fn fraction(&self, key: &str) -> Option<FractionalPercent> {
        let Some(Value::Struct(fields)) = self.values.get(key) else {
            let percent = self.integer(key)?.min(100);
            return Some(FractionalPercent::new(percent as u32, 100));
        };
        let numerator = match fields.get("numerator") {
            Some(Value::Number(number)) => *number as u32,
            _ => 0,
        };
        let denominator = match fields.get("denominator").and_then(Value::as_str) {
            Some("TEN_THOUSAND") => 10_000,
            Some("MILLION") => 1_000_000,
            _ => 100,
        };
        Some(FractionalPercent::new(numerator, denominator))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_kind() {
        let fraction = Value::Struct(BTreeMap::from([
            ("numerator".into(), Value::Number(5.0)),
            ("denominator".into(), Value::String("MILLION".into())),
        ]));
        let values = [
            ("a".into(), Value::Number(30.0)),
            ("b".into(), Value::Bool(false)),
            ("c".into(), fraction),
            ("d".into(), Value::Number(300.0)),
            ("e".into(), Value::String("7".into())),
        ];
        let runtime = Runtime { values: values.into() };
        assert_eq!((runtime.integer("a"), runtime.integer("b"), runtime.integer("e")), (Some(30), None, Some(7)));
        assert_eq!((runtime.truth("b"), runtime.truth("a"), runtime.truth("none")), (Some(false), None, None));
        let fractions = ["a", "c", "d", "b", "none"].map(|key| runtime.fraction(key).map(|it| it.per_million()));
        assert_eq!(fractions, [Some(300_000), Some(5), Some(1_000_000), None, None]);
    }
}
