//! Small shared messages: metadata, structs, percentages, localities, data sources, wrapped numbers.

use std::sync::{Arc, LazyLock};

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::r#type::v3 as type_pb;
use envoy_types::pb::google::protobuf;
use tulle_balance::endpoints::NO_TEXT;
use tulle_balance::{EndpointMetadata, Labels, Locality};
use tulle_config::Runtime;
use tulle_config::tls::DataSource;
use tulle_core::metadata::{Metadata, Struct, Value};
use tulle_core::{FractionalPercent, Str};

use super::cx::{Cx, refuse};

/// A protobuf struct as an ordered map.
pub fn struct_to_map(fields: protobuf::Struct) -> Struct {
    fields.fields.into_iter().map(|(key, value)| (Str::from(key), value_of(value))).collect()
}

fn value_of(value: protobuf::Value) -> Value {
    use protobuf::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => Value::Number(number),
        Some(Kind::StringValue(text)) => Value::String(text.into()),
        Some(Kind::BoolValue(truth)) => Value::Bool(truth),
        Some(Kind::StructValue(fields)) => Value::Struct(struct_to_map(fields)),
        Some(Kind::ListValue(list)) => Value::List(list.values.into_iter().map(value_of).collect()),
    }
}

/// Of everything that has no metadata.
static NONE: LazyLock<Arc<Metadata>> = LazyLock::new(Arc::default);

/// Metadata; typed metadata has no reader here and is left out with a warning.
pub fn metadata(cx: &mut Cx, message: Option<core_pb::Metadata>) -> Arc<Metadata> {
    let Some(core_pb::Metadata { filter_metadata, typed_filter_metadata }) = message else {
        return NONE.clone();
    };
    super::cx::without_effect!(cx; typed_filter_metadata);
    let filters = filter_metadata.into_iter().map(|(name, fields)| (Str::from(name), struct_to_map(fields)));
    Arc::new(Metadata { filters: filters.collect() })
}

/// A struct's entries as labels; values that are not strings are written as JSON would, and marked so that `true` is not
/// `"true"`.
pub fn labels(cx: &mut Cx, fields: &Struct) -> Labels {
    let mut pairs = Vec::with_capacity(fields.len());
    for (key, value) in fields {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => cx.intern(&format!("{NO_TEXT}{number}")),
            Value::Bool(truth) => cx.intern(&format!("{NO_TEXT}{truth}")),
            Value::Null | Value::List(_) | Value::Struct(_) => {
                cx.error_at(key, "must be a string, number or boolean");
                continue;
            }
        };
        pairs.push((key.clone(), text));
    }
    Labels::new(pairs)
}

/// The labels of a `metadata_match`: what it has under `envoy.lb`.
pub fn subset(cx: &mut Cx, message: Option<core_pb::Metadata>) -> Box<[(Str, Str)]> {
    let metadata = metadata(cx, message);
    let Some(fields) = metadata.filter("envoy.lb") else { return Box::default() };
    cx.field("envoy.lb", |cx| labels(cx, fields)).iter().cloned().collect()
}

type Lists = Box<[(Str, Box<[Str]>)]>;

/// An endpoint's labels, single values and lists apart.
fn lb_labels(cx: &mut Cx, fields: &Struct) -> (Labels, Lists) {
    let mut single = fields.clone();
    single.retain(|_, value| !matches!(value, Value::List(_)));
    let mut lists = Vec::new();
    for (key, value) in fields {
        if let Value::List(values) = value {
            let texts = values.iter().filter_map(Value::as_str).map(|text| cx.intern(text)).collect();
            lists.push((key.clone(), texts));
        }
    }
    (labels(cx, &single), lists.into())
}

/// The parts of an endpoint's metadata that anything reads.
pub fn endpoint_metadata(cx: &mut Cx, message: Option<core_pb::Metadata>) -> EndpointMetadata {
    let metadata = metadata(cx, message);
    let pick = |cx: &mut Cx, filter: &str| match metadata.filter(filter) {
        Some(fields) => cx.field(filter, |cx| labels(cx, fields)),
        None => Labels::default(),
    };
    let (lb, lb_lists) = match metadata.filter("envoy.lb") {
        Some(fields) => cx.field("envoy.lb", |cx| lb_labels(cx, fields)),
        None => <(Labels, Lists)>::default(),
    };
    EndpointMetadata {
        lb,
        lb_lists,
        transport: pick(cx, "envoy.transport_socket_match"),
        workload: metadata
            .filter("istio")
            .and_then(|fields| fields.get("workload"))
            .and_then(Value::as_str)
            .map(|text| cx.intern(text)),
        check: None,
        more_addresses: Box::default(),
    }
}

pub fn locality(cx: &mut Cx, message: Option<core_pb::Locality>) -> Locality {
    let core_pb::Locality { region, zone, sub_zone } = message.unwrap_or_default();
    Locality { region: cx.intern(&region), zone: cx.intern(&zone), sub_zone: cx.intern(&sub_zone) }
}

pub fn fraction(cx: &mut Cx, message: type_pb::FractionalPercent) -> Option<FractionalPercent> {
    let type_pb::FractionalPercent { numerator, denominator: kind } = message;
    Some(FractionalPercent::new(numerator, denominator(cx, kind)?))
}

/// The number that the field `denominator` stands for.
pub fn denominator(cx: &mut Cx, kind: i32) -> Option<u32> {
    use type_pb::fractional_percent::DenominatorType;
    Some(match cx.enumeration::<DenominatorType>("denominator", kind)? {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    })
}

/// A fraction under a runtime key; the default is 100 % when none is given.
pub fn runtime_fraction(cx: &mut Cx, message: core_pb::RuntimeFractionalPercent) -> Option<FractionalPercent> {
    let core_pb::RuntimeFractionalPercent { default_value, runtime_key } = message;
    if let Some(fraction) = cx.runtime(&runtime_key, Runtime::fraction) {
        return Some(fraction);
    }
    match default_value {
        Some(value) => cx.field("default_value", |cx| fraction(cx, value)),
        None => Some(FractionalPercent::ALWAYS),
    }
}

/// A percentage from 0 to 100.
pub fn percent(cx: &mut Cx, name: &str, message: Option<type_pb::Percent>, default: f64) -> f64 {
    match message.map(|percent| percent.value) {
        None => default,
        Some(value) if (0.0..=100.0).contains(&value) => value,
        Some(value) => {
            cx.error_at(name, format!("{value} is not between 0 and 100"));
            default
        }
    }
}

/// A flag under a runtime key; true when nothing says otherwise.
pub fn runtime_flag(cx: &mut Cx, message: Option<core_pb::RuntimeFeatureFlag>) -> bool {
    let Some(core_pb::RuntimeFeatureFlag { default_value, runtime_key }) = message else { return true };
    cx.runtime(&runtime_key, Runtime::truth).unwrap_or_else(|| truth(default_value, true))
}

pub fn uint(value: Option<protobuf::UInt32Value>) -> Option<u32> {
    value.map(|wrapped| wrapped.value)
}

pub fn truth(value: Option<protobuf::BoolValue>, default: bool) -> bool {
    value.map_or(default, |wrapped| wrapped.value)
}

/// A text that may be absent.
pub fn optional(cx: &mut Cx, text: &str) -> Option<Str> {
    (!text.is_empty()).then(|| cx.intern(text))
}

pub fn data_source(cx: &mut Cx, message: core_pb::DataSource) -> Option<DataSource> {
    use core_pb::data_source::Specifier;
    let core_pb::DataSource { watched_directory, specifier } = message;
    refuse!(cx; watched_directory);
    match cx.required("specifier", specifier)? {
        Specifier::Filename(path) => Some(DataSource::File(std::path::Path::new(&path).into())),
        Specifier::InlineBytes(bytes) => Some(DataSource::Inline(bytes.into())),
        Specifier::InlineString(text) => Some(DataSource::Inline(text.into_bytes().into())),
        Specifier::EnvironmentVariable(name) => Some(DataSource::Environment(name.into())),
    }
}

/// What a data source holds, read now: it belongs to the configuration as it is when that is loaded.
pub fn content(cx: &mut Cx, message: core_pb::DataSource) -> Option<Box<[u8]>> {
    match data_source(cx, message)? {
        DataSource::Inline(bytes) => Some((&*bytes).into()),
        DataSource::File(path) => match std::fs::read(&path) {
            Ok(bytes) => Some(bytes.into()),
            Err(error) => {
                cx.error_at("filename", format!("{}: {error}", path.display()));
                None
            }
        },
        DataSource::Environment(name) => match std::env::var(&*name) {
            Ok(text) => Some(text.into_bytes().into()),
            Err(_) => {
                cx.error_at("environment_variable", format!("{name} is not set"));
                None
            }
        },
    }
}
