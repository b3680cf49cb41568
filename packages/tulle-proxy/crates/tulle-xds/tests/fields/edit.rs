//! Places in a message, through packed messages too, and values to put there.

use envoy_types::pb::google::protobuf::Any;
use prost_reflect::prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind as Type, MapKey, MessageDescriptor,
    ReflectMessage as _, Value,
};

#[derive(Clone, Debug)]
enum Step {
    Field(FieldDescriptor),
    Index(FieldDescriptor, usize),
    Key(FieldDescriptor, MapKey),
    /// What is packed here.
    Packed(String),
}

/// Where a message is in another.
#[derive(Clone, Debug, Default)]
pub struct Place(Vec<Step>);

fn is_any(message: &DynamicMessage) -> bool {
    message.descriptor().full_name() == "google.protobuf.Any"
}

fn any_of(message: &DynamicMessage) -> Any {
    Any::decode(message.encode_to_vec().as_slice()).unwrap()
}

/// The message in `any`, where its type is known.
pub fn unpacked(pool: &DescriptorPool, any: &Any) -> Option<DynamicMessage> {
    let name = any.type_url.rsplit('/').next()?;
    DynamicMessage::decode(pool.get_message_by_name(name)?, any.value.as_slice()).ok()
}

fn repacked(into: &mut DynamicMessage, content: &DynamicMessage) {
    let any = Any { value: content.encode_to_vec(), ..any_of(into) };
    *into = DynamicMessage::decode(into.descriptor(), any.encode_to_vec().as_slice()).unwrap();
}

impl Place {
    fn then(&self, step: Step) -> Place {
        Place(self.0.iter().cloned().chain([step]).collect())
    }

    /// The field that it is in.
    pub fn holder(&self) -> String {
        let fields = self.0.iter().rev().find_map(|step| match step {
            Step::Field(field) | Step::Index(field, _) | Step::Key(field, _) => Some(field.name().to_owned()),
            Step::Packed(_) => None,
        });
        fields.unwrap_or_default()
    }

    /// The fields' names on the way.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self
            .0
            .iter()
            .map(|step| match step {
                Step::Field(field) | Step::Index(field, _) | Step::Key(field, _) => field.name(),
                Step::Packed(name) => name,
            })
            .collect();
        names.join(".")
    }

    /// The messages directly in `message`, which is here.
    pub fn inside(&self, pool: &DescriptorPool, message: &DynamicMessage) -> Vec<Place> {
        if is_any(message) {
            let content = unpacked(pool, &any_of(message));
            let name = content.map(|content| content.descriptor().name().to_owned());
            return name.map(|name| self.then(Step::Packed(name))).into_iter().collect();
        }
        let mut found = Vec::new();
        for (field, value) in message.fields() {
            match value {
                Value::Message(_) => found.push(self.then(Step::Field(field))),
                Value::List(items) => {
                    let of_messages = |at: &usize| matches!(items[*at], Value::Message(_));
                    let steps = (0..items.len()).filter(of_messages).map(|at| Step::Index(field.clone(), at));
                    found.extend(steps.map(|step| self.then(step)));
                }
                Value::Map(entries) => {
                    let messages = entries.iter().filter(|(_, value)| matches!(value, Value::Message(_)));
                    found.extend(messages.map(|(key, _)| self.then(Step::Key(field.clone(), key.clone()))));
                }
                _ => {}
            }
        }
        found
    }

    /// The message here, of `root`.
    pub fn get(&self, pool: &DescriptorPool, root: &DynamicMessage) -> DynamicMessage {
        let mut found = None;
        self.with(pool, root, |message| found = Some(message.clone()));
        found.unwrap()
    }

    /// `root` with the message here changed.
    pub fn with(
        &self,
        pool: &DescriptorPool,
        root: &DynamicMessage,
        change: impl FnOnce(&mut DynamicMessage),
    ) -> DynamicMessage {
        let mut root = root.clone();
        apply(pool, &mut root, &self.0, change);
        root
    }
}

fn apply(
    pool: &DescriptorPool,
    message: &mut DynamicMessage,
    steps: &[Step],
    change: impl FnOnce(&mut DynamicMessage),
) {
    let Some((step, rest)) = steps.split_first() else { return change(message) };
    let inner = match step {
        Step::Packed(_) => {
            let mut content = unpacked(pool, &any_of(message)).unwrap();
            apply(pool, &mut content, rest, change);
            return repacked(message, &content);
        }
        Step::Field(field) => message.get_field_mut(field),
        Step::Index(field, at) => &mut message.get_field_mut(field).as_list_mut().unwrap()[*at],
        Step::Key(field, key) => message.get_field_mut(field).as_map_mut().unwrap().get_mut(key).unwrap(),
    };
    apply(pool, inner.as_message_mut().unwrap(), rest, change);
}

/// Values to try in a field, most telling first: of messages an empty one, and ones with their own fields set some
/// levels deep.
pub fn examples(field: &FieldDescriptor) -> Vec<Value> {
    let depths = if matches!(field.kind(), Type::Message(_)) { DEPTHS } else { 1 };
    (0..depths).flat_map(|depth| (0..VARIANTS).map(move |variant| example(field, depth, variant))).collect()
}

const DEPTHS: usize = 4;
const VARIANTS: usize = 4;

fn example(field: &FieldDescriptor, depth: usize, variant: usize) -> Value {
    if field.is_map() {
        let Type::Message(entry) = field.kind() else { unreachable!("a map's field holds entries") };
        let value = one(&entry.map_entry_value_field().kind(), depth, variant);
        let key = match entry.map_entry_key_field().kind() {
            Type::String => MapKey::String("x".to_owned()),
            Type::Bool => MapKey::Bool(true),
            Type::Int32 | Type::Sint32 | Type::Sfixed32 => MapKey::I32(1),
            Type::Int64 | Type::Sint64 | Type::Sfixed64 => MapKey::I64(1),
            Type::Uint32 | Type::Fixed32 => MapKey::U32(1),
            _ => MapKey::U64(1),
        };
        return Value::Map([(key, value)].into());
    }
    let value = one(&field.kind(), depth, variant);
    if field.cardinality() == Cardinality::Repeated { Value::List(vec![value]) } else { value }
}

fn one(kind: &Type, depth: usize, variant: usize) -> Value {
    let number = [3, 1, 0, 7][variant];
    match kind {
        Type::Double => Value::F64(number as f64 / 4.0),
        Type::Float => Value::F32(number as f32 / 4.0),
        Type::Int32 | Type::Sint32 | Type::Sfixed32 => Value::I32(number),
        Type::Int64 | Type::Sint64 | Type::Sfixed64 => Value::I64(number.into()),
        Type::Uint32 | Type::Fixed32 => Value::U32(number as u32),
        Type::Uint64 | Type::Fixed64 => Value::U64(number as u64),
        Type::Bool => Value::Bool(variant.is_multiple_of(2)),
        Type::String => Value::String(["x", "y", "", "/z"][variant].to_owned()),
        Type::Bytes => Value::Bytes(["x", "y", "", "z"][variant].as_bytes().to_owned().into()),
        Type::Enum(of) => Value::EnumNumber(of.values().nth(variant).map_or(0, |value| value.number())),
        Type::Message(of) => Value::Message(message(of, depth, variant)),
    }
}

fn message(of: &MessageDescriptor, depth: usize, variant: usize) -> DynamicMessage {
    let mut made = DynamicMessage::new(of.clone());
    if depth == 0 {
        return made;
    }
    let mut chosen = std::collections::HashSet::new();
    for field in of.fields() {
        let first = field.containing_oneof().is_none_or(|oneof| chosen.insert(oneof.name().to_owned()));
        let deeper = matches!(field.kind(), Type::Message(_));
        if first && (!deeper || depth > 1) {
            made.set_field(&field, example(&field, depth - 1, variant));
        }
    }
    made
}
