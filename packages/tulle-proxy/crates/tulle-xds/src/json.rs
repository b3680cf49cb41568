//! Envoy's YAML and JSON forms of its messages: the canonical protobuf JSON mapping, by the messages' own descriptors.
//!
//! The descriptors (`proto/config.bin`, made by `proto/trim.py`) are decoded when a file is read or a dump is asked for
//! and dropped afterwards, so that an idle proxy holds none of them.

mod lenient;

use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions};
use serde::Deserialize as _;

const DESCRIPTORS: &[u8] = include_bytes!("../proto/config.bin");

/// Why a text is not the message it should be.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("not valid YAML: {0}")]
    Syntax(#[from] serde_norway::Error),
    /// `path` as in `static_resources.listeners[0].address`.
    #[error("{path}: {reason}")]
    Field { path: String, reason: String },
}

/// The messages that configuration may hold, by name.
pub struct Messages {
    pool: DescriptorPool,
}

impl Default for Messages {
    fn default() -> Self {
        Self::load()
    }
}

impl Messages {
    /// Decodes the descriptors: about a millisecond and a few megabytes, so keep it no longer than needed.
    pub fn load() -> Self {
        // The bytes are part of the program and a test decodes them.
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("the built-in descriptors are valid");
        Messages { pool }
    }

    /// Reads YAML (or JSON, which is YAML) as the message `M`. Unknown fields, duplicate keys and wrong types are errors.
    /// What Envoy reads beyond the canonical mapping is read too. Packed messages of types that are not built in are kept
    /// by their type alone.
    pub fn parse<M: prost::Message + prost::Name + Default>(&self, text: &str) -> Result<M, JsonError> {
        let yaml: serde_norway::Value = serde_norway::from_str(text)?;
        let mut value = without_tags(yaml, &mut Vec::new())?;
        let mut pool = self.pool.clone();
        lenient::rewrite(&mut pool, &M::full_name(), &mut value);
        let descriptor = pool.get_message_by_name(&M::full_name()).ok_or_else(|| JsonError::Field {
            path: String::new(),
            reason: format!("{} is not among the built-in messages", M::full_name()),
        })?;
        let mut track = serde_path_to_error::Track::new();
        let source = serde_path_to_error::Deserializer::new(value, &mut track);
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let message =
            DynamicMessage::deserialize_with_options(descriptor, source, &options).map_err(|error| error.to_string());
        let message = message.map_err(|reason| JsonError::Field { path: track.path().to_string(), reason })?;
        let bytes = message.encode_to_vec();
        M::decode(bytes.as_slice()).map_err(|error| JsonError::Field { path: String::new(), reason: error.to_string() })
    }

    /// The JSON form of a packed message with `@type`, field names as in the proto files. A type that is not built in
    /// shows as its `@type` alone.
    pub fn any_to_json(&self, type_url: &str, bytes: &[u8]) -> serde_json::Value {
        let mut value = self.to_json(type_url, bytes).unwrap_or_else(|| serde_json::json!({}));
        if let serde_json::Value::Object(fields) = &mut value {
            fields.insert("@type".to_owned(), type_url.into());
        }
        value
    }

    fn to_json(&self, type_url: &str, bytes: &[u8]) -> Option<serde_json::Value> {
        let name = type_url.rsplit_once('/').map_or(type_url, |(_, name)| name);
        let descriptor = self.pool.get_message_by_name(name)?;
        let message = DynamicMessage::decode(descriptor, bytes).ok()?;
        let options = SerializeOptions::new().use_proto_field_name(true);
        message.serialize_with_options(serde_json::value::Serializer, &options).ok()
    }
}

/// Packs a message as the control plane would send it.
pub fn pack<M: prost::Message + prost::Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// JSON has neither tags nor keys that are not strings; YAML merge keys stay what they are and are then unknown fields.
fn without_tags(yaml: serde_norway::Value, path: &mut Vec<String>) -> Result<serde_json::Value, JsonError> {
    use serde_norway::Value;
    let refuse = |path: &[String], reason: &str| JsonError::Field { path: path.join("."), reason: reason.to_owned() };
    Ok(match yaml {
        Value::Sequence(items) => {
            let items = items.into_iter().enumerate().map(|(at, item)| within(path, format!("[{at}]"), item));
            serde_json::Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Mapping(fields) => {
            let mut object = serde_json::Map::new();
            for (key, value) in fields {
                let key = match key {
                    Value::String(key) => key,
                    Value::Number(key) => key.to_string(),
                    Value::Bool(key) => key.to_string(),
                    _ => return Err(refuse(path, "a key must be a string")),
                };
                let value = within(path, key.clone(), value)?;
                object.insert(key, value);
            }
            without_empty_config(&mut object);
            serde_json::Value::Object(object)
        }
        Value::Tagged(_) => return Err(refuse(path, "YAML tags are not supported")),
        scalar => serde_json::Value::deserialize(scalar)?,
    })
}

/// Envoy's documentation writes `config: {}` for a filter that is on and has settings of its own only. As a packed message
/// that has no type, and so no JSON form: it means the same as no `config`.
fn without_empty_config(object: &mut serde_json::Map<String, serde_json::Value>) {
    let is_wrapper =
        object.get("@type").and_then(|kind| kind.as_str()).is_some_and(|kind| kind.ends_with(".FilterConfig"));
    if is_wrapper && object.get("config").is_some_and(|config| config.as_object().is_some_and(|it| it.is_empty())) {
        object.remove("config");
    }
}

fn within(path: &mut Vec<String>, step: String, value: serde_norway::Value) -> Result<serde_json::Value, JsonError> {
    path.push(step);
    let inner = without_tags(value, path);
    path.pop();
    inner
}
