//! What Envoy reads although the canonical JSON mapping does not have it: one value where a list is expected, enum values
//! and truths in other spellings, durations and wrappers as messages, `TypedStruct`, and messages of types that are not
//! built in.
//!
//! Values that are not understood are left alone: the parser that comes after says what is wrong with them.

use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};
use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

const TYPE: &str = "@type";
const TYPED_STRUCTS: [&str; 2] = ["xds.type.v3.TypedStruct", "udpa.type.v1.TypedStruct"];
const OWN_FORM: &str = "google.protobuf.";

/// Rewrites `value`, which is to become a message of `name`, and adds to `pool` the types that it does not have.
pub fn rewrite(pool: &mut DescriptorPool, name: &str, value: &mut Value) {
    let mut unknown = Vec::new();
    packed(pool, value, &mut unknown);
    unknown.sort();
    unknown.dedup();
    // A name that cannot be a message's stays unknown.
    unknown.iter().for_each(|name| drop(pool.add_file_descriptor_proto(stub(name))));
    if let Some(descriptor) = pool.get_message_by_name(name) {
        message(pool, &descriptor, value);
    }
}

/// A message without fields: who is to read one of this type says that it does not know it, or leaves it out.
fn stub(name: &str) -> FileDescriptorProto {
    let (package, last) = name.rsplit_once('.').unwrap_or(("", name));
    FileDescriptorProto {
        name: Some(format!("not built in/{name}")),
        package: Some(package.to_owned()),
        message_type: vec![DescriptorProto { name: Some(last.to_owned()), ..Default::default() }],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

fn name_of(fields: &Map<String, Value>) -> Option<&str> {
    let url = fields.get(TYPE)?.as_str()?;
    Some(url.rsplit_once('/').map_or(url, |(_, name)| name))
}

/// Unpacks what is in a `TypedStruct`, and empties what is of an unknown type.
fn packed(pool: &DescriptorPool, value: &mut Value, unknown: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| packed(pool, item, unknown)),
        Value::Object(fields) => {
            if name_of(fields).is_some_and(|name| TYPED_STRUCTS.contains(&name)) {
                unwrap(fields);
            }
            match name_of(fields) {
                Some(name) if pool.get_message_by_name(name).is_none() => {
                    unknown.push(name.to_owned());
                    fields.retain(|key, _| key == TYPE);
                }
                _ => fields.values_mut().for_each(|field| packed(pool, field, unknown)),
            }
        }
        _ => {}
    }
}

fn unwrap(fields: &mut Map<String, Value>) {
    let url = fields.get("type_url").or_else(|| fields.get("typeUrl")).and_then(Value::as_str).map(str::to_owned);
    let Some(url) = url.filter(|url| !url.is_empty()) else { return };
    let inner = match fields.remove("value") {
        Some(Value::Object(inner)) => inner,
        _ => Map::new(),
    };
    *fields = inner;
    fields.insert(TYPE.to_owned(), Value::String(url));
}

fn message(pool: &DescriptorPool, descriptor: &MessageDescriptor, value: &mut Value) {
    match descriptor.full_name() {
        "google.protobuf.Any" => any(pool, value),
        "google.protobuf.Duration" => duration(value),
        "google.protobuf.BoolValue" => {
            wrapper(value);
            truth(value);
        }
        name if name.starts_with(OWN_FORM) && name.ends_with("Value") => wrapper(value),
        name if name.starts_with(OWN_FORM) => {}
        _ => fields(pool, descriptor, value),
    }
}

fn fields(pool: &DescriptorPool, descriptor: &MessageDescriptor, value: &mut Value) {
    let Value::Object(given) = value else { return };
    for (name, value) in given {
        let field = descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name));
        if let Some(field) = field {
            each(pool, &field, value);
        }
    }
}

fn each(pool: &DescriptorPool, field: &FieldDescriptor, value: &mut Value) {
    if field.is_map() {
        if let (Kind::Message(entry), Value::Object(entries)) = (field.kind(), value) {
            let of = entry.map_entry_value_field();
            entries.values_mut().for_each(|value| one(pool, &of.kind(), value));
        }
        return;
    }
    if field.is_list() && !value.is_array() && !value.is_null() {
        *value = Value::Array(vec![value.take()]);
    }
    match value {
        Value::Array(items) if field.is_list() => items.iter_mut().for_each(|item| one(pool, &field.kind(), item)),
        value => one(pool, &field.kind(), value),
    }
}

fn one(pool: &DescriptorPool, kind: &Kind, value: &mut Value) {
    match kind {
        Kind::Message(descriptor) => message(pool, descriptor, value),
        Kind::Enum(descriptor) => enumeration(descriptor, value),
        Kind::Bool => truth(value),
        _ => {}
    }
}

fn any(pool: &DescriptorPool, value: &mut Value) {
    let Value::Object(given) = value else { return };
    let descriptor = name_of(given).and_then(|name| pool.get_message_by_name(name));
    if let Some(descriptor) = descriptor.filter(|descriptor| !descriptor.full_name().starts_with(OWN_FORM)) {
        fields(pool, &descriptor, value);
    }
}

/// Envoy takes the names of enum values in any case, and `-` for `_`.
fn enumeration(descriptor: &EnumDescriptor, value: &mut Value) {
    let Value::String(text) = value else { return };
    if descriptor.get_value_by_name(text).is_none() {
        let same = |name: &str| name.eq_ignore_ascii_case(&text.replace('-', "_"));
        if let Some(found) = descriptor.values().find(|known| same(known.name())) {
            found.name().clone_into(text);
        }
    }
}

fn truth(value: &mut Value) {
    let truth = match value.as_str() {
        Some("true" | "yes" | "on") => true,
        Some("false" | "no" | "off") => false,
        _ => return,
    };
    *value = Value::Bool(truth);
}

fn wrapper(value: &mut Value) {
    if let Value::Object(fields) = value
        && fields.len() == 1
        && let Some(inner) = fields.get_mut("value")
    {
        *value = inner.take();
    }
}

fn duration(value: &mut Value) {
    let Value::Object(fields) = value else { return };
    if fields.keys().any(|key| key != "seconds" && key != "nanos") {
        return;
    }
    let part = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Some(0),
        Some(Value::String(text)) => text.parse().ok(),
        Some(other) => other.as_i64(),
    };
    let (Some(seconds), Some(nanos)) = (part("seconds"), part("nanos")) else { return };
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    if (seconds < 0) == (nanos < 0) || seconds == 0 || nanos == 0 {
        *value = Value::String(format!("{sign}{}.{:09}s", seconds.unsigned_abs(), nanos.unsigned_abs()));
    }
}
