//! The decoder's context: where in the resource it is, and what it found wrong so far.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::google::protobuf;
use tulle_config::Runtime;
use tulle_core::{Interner, Str};

/// One thing wrong with a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// As in `virtual_hosts[2].routes[0].match.safe_regex`; empty for the resource itself.
    pub path: String,
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() { out.write_str(&self.message) } else { write!(out, "{}: {}", self.path, self.message) }
    }
}

/// What decoding one resource needs and collects. Decoders return `None` after they have reported an error.
#[derive(Default)]
pub struct Cx {
    path: String,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    interner: Interner,
    runtime: Arc<Runtime>,
    /// The keys of the runtime that something asked for.
    asked: BTreeSet<String>,
    /// Whether route tables that do not say it are to name only clusters that exist.
    pub validates_tables: bool,
    /// The clusters that the table being read names, with the fields, where that table is validated.
    validated: Option<Vec<(Box<str>, Str)>>,
}

impl Cx {
    pub fn new() -> Self {
        Self::default()
    }

    /// What overrides the defaults of the configuration that is decoded.
    pub fn with_runtime(runtime: Arc<Runtime>) -> Self {
        Cx { runtime, ..Self::default() }
    }

    pub fn set_runtime(&mut self, runtime: Arc<Runtime>) {
        self.runtime = runtime;
    }

    /// What the runtime has under `key`, where one is named.
    pub fn runtime<T>(&mut self, key: &str, read: impl Fn(&Runtime, &str) -> Option<T>) -> Option<T> {
        if key.is_empty() || self.runtime.values.is_empty() {
            return None;
        }
        self.asked.insert(key.to_owned());
        read(&self.runtime, key)
    }

    /// Whether anything asked for the runtime's `key`.
    pub fn has_asked(&self, key: &str) -> bool {
        self.asked.contains(key)
    }

    /// Runs `inner` one field deeper.
    pub fn field<T>(&mut self, name: &str, inner: impl FnOnce(&mut Cx) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let result = inner(self);
        self.path.truncate(length);
        result
    }

    /// Decodes each item of the list `name`; items with errors are left out (the resource is refused anyway).
    pub fn each<I, T>(&mut self, name: &str, items: Vec<I>, decode: impl Fn(&mut Cx, I) -> Option<T>) -> Vec<T> {
        let length = self.path.len();
        let separator = if length > 0 { "." } else { "" };
        let mut decoded = Vec::with_capacity(items.len());
        for (at, item) in items.into_iter().enumerate() {
            let _ = write!(self.path, "{separator}{name}[{at}]");
            decoded.extend(decode(self, item));
            self.path.truncate(length);
        }
        decoded
    }

    pub fn error(&mut self, message: impl Into<String>) {
        self.errors.push(Finding { path: self.path.clone(), message: message.into() });
    }

    /// Reports an error at the field `name` of where we are.
    pub fn error_at(&mut self, name: &str, message: impl Into<String>) {
        self.field(name, |cx| cx.error(message));
    }

    pub fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(Finding { path: self.path.clone(), message: message.into() });
    }

    /// Reports that the set field `name` would change what happens and is not supported.
    pub fn refuse(&mut self, name: &str) {
        self.error_at(name, "is not supported");
    }

    /// Reports that the set field `name` has no effect here.
    pub fn ignore(&mut self, name: &str) {
        self.field(name, |cx| cx.warn("has no effect"));
    }

    /// Reports a missing required field.
    pub fn required<T>(&mut self, name: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.error_at(name, "is required");
        }
        value
    }

    /// Runs `inner`, which reads a route table, and gives the clusters that it names where that is to be validated.
    pub fn validated<T>(&mut self, validate: bool, inner: impl FnOnce(&mut Cx) -> T) -> (T, Vec<(Box<str>, Str)>) {
        self.validated = validate.then(Vec::new);
        let made = inner(self);
        (made, self.validated.take().unwrap_or_default())
    }

    /// The shared name of a cluster to which the field `name` refers.
    pub fn cluster(&mut self, field: &str, name: &str) -> Str {
        let name = self.intern(name);
        let path = self.field(field, |cx| cx.path.as_str().into());
        if let Some(validated) = &mut self.validated {
            validated.push((path, name.clone()));
        }
        name
    }

    /// The shared copy of `text`.
    pub fn intern(&mut self, text: &str) -> Str {
        self.interner.intern(text)
    }

    /// The shared copy of a text that must not be empty.
    pub fn name(&mut self, field: &str, text: &str) -> Option<Str> {
        if text.is_empty() {
            self.error_at(field, "is required");
            return None;
        }
        Some(self.intern(text))
    }

    /// A known value of an enum field.
    pub fn enumeration<E: TryFrom<i32>>(&mut self, name: &str, value: i32) -> Option<E> {
        let known = E::try_from(value).ok();
        if known.is_none() {
            self.error_at(name, format!("{value} is not a known value"));
        }
        known
    }

    /// A duration; negative ones and ones beyond Go's and Envoy's range are refused.
    pub fn duration(&mut self, name: &str, value: Option<protobuf::Duration>) -> Option<Duration> {
        let value = value?;
        let parts = (u64::try_from(value.seconds), u32::try_from(value.nanos));
        match parts {
            (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 && seconds <= 315_576_000_000 => {
                Some(Duration::new(seconds, nanos))
            }
            _ => {
                self.error_at(name, "must be a duration that is not negative");
                None
            }
        }
    }

    /// A duration that must not be zero.
    pub fn positive(&mut self, name: &str, value: Option<protobuf::Duration>) -> Option<Duration> {
        let duration = self.duration(name, value)?;
        if duration.is_zero() {
            self.error_at(name, "must be greater than 0");
        }
        Some(duration)
    }

    /// A limit whose zero means "none" and whose absence means `default`.
    pub fn limit(
        &mut self,
        name: &str,
        value: Option<protobuf::Duration>,
        default: Option<Duration>,
    ) -> Option<Duration> {
        if value.is_none() {
            return default;
        }
        self.duration(name, value).filter(|limit| !limit.is_zero())
    }

    /// The message packed in `any`, whose type must be `M`.
    pub fn unpack<M: prost::Message + prost::Name + Default>(&mut self, any: &protobuf::Any) -> Option<M> {
        if type_name(&any.type_url) != M::full_name() {
            self.error(format!("must hold a {}, not a {}", M::full_name(), type_name(&any.type_url)));
            return None;
        }
        match M::decode(any.value.as_slice()) {
            Ok(message) => Some(message),
            Err(error) => {
                self.error(format!("is not a valid {}: {error}", M::full_name()));
                None
            }
        }
    }

    /// The decoded value with its warnings, or everything that was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Finding>), Vec<Finding>> {
        match value {
            Some(value) if self.errors.is_empty() => Ok((value, self.warnings)),
            Some(_) => Err(self.errors),
            None if self.errors.is_empty() => {
                Err(vec![Finding { path: String::new(), message: "could not be decoded".to_owned() }])
            }
            None => Err(self.errors),
        }
    }
}

/// The full message name in a type URL.
pub fn type_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

/// Whether a protobuf field holds anything but its default.
pub trait IsSet {
    fn is_set(&self) -> bool;
}

impl<T: IsSet + ?Sized> IsSet for &T {
    fn is_set(&self) -> bool {
        (**self).is_set()
    }
}

impl<T> IsSet for Option<T> {
    fn is_set(&self) -> bool {
        self.is_some()
    }
}

impl<T> IsSet for Vec<T> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl<K, V> IsSet for std::collections::HashMap<K, V> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for String {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for bool {
    fn is_set(&self) -> bool {
        *self
    }
}

impl IsSet for i32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

impl IsSet for u32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

impl IsSet for u64 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

impl IsSet for i64 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

/// Refuses each named field (a binding of that name) when it is set. Decoders destructure their message without `..`,
/// so that every field it has, or gains with a new version of Envoy's API, is decoded, refused or ignored by name.
macro_rules! refuse {
    ($cx:expr; $($field:ident),* $(,)?) => {
        $(if $crate::decode::cx::IsSet::is_set(&$field) {
            $cx.refuse(stringify!($field));
        })*
    };
}

/// Warns of each named field when it is set: it has no effect on what requests see.
macro_rules! without_effect {
    ($cx:expr; $($field:ident),* $(,)?) => {
        $(if $crate::decode::cx::IsSet::is_set(&$field) {
            $cx.ignore(stringify!($field));
        })*
    };
}

pub(crate) use {refuse, without_effect};
