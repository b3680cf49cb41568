//! The bootstrap's `layered_runtime`: what its static layers say.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::bootstrap::v3 as boot_pb;
use tulle_config::{ConnectionLimits, Runtime};
use tulle_core::Str;
use tulle_core::metadata::{Struct, Value};

use crate::decode::Cx;
use crate::decode::statics::struct_to_map;

const PROCESS: &str = "overload.global_downstream_max_connections";
const OF_A_LISTENER: (&str, &str) = ("envoy.resource_limits.listener.", ".connection_limit");

/// What a key limits.
enum Scope {
    Process,
    Listener(Str),
}

/// The values that the static layers set; a later layer overrides an earlier one. Layers that come from a disk, a control
/// plane or the admin endpoint are not read and warned about.
pub fn runtime(cx: &mut Cx, message: boot_pb::LayeredRuntime) -> Runtime {
    let boot_pb::LayeredRuntime { layers } = message;
    let mut runtime = Runtime::default();
    for values in cx.each("layers", layers, layer) {
        runtime.values.extend(values);
    }
    runtime
}

fn layer(cx: &mut Cx, message: boot_pb::RuntimeLayer) -> Option<BTreeMap<Str, Value>> {
    use boot_pb::runtime_layer::LayerSpecifier;
    let boot_pb::RuntimeLayer { name, layer_specifier } = message;
    cx.name("name", &name)?;
    let mut values = BTreeMap::new();
    match layer_specifier {
        Some(LayerSpecifier::StaticLayer(given)) => walk(cx, "", struct_to_map(given), &mut values),
        _ => cx.warn("has no effect: only static layers are read"),
    }
    Some(values)
}

/// Keys may be written with dots or as nested structures; one with a numerator or a denominator is a fraction.
fn walk(cx: &mut Cx, above: &str, given: Struct, values: &mut BTreeMap<Str, Value>) {
    for (name, value) in given {
        let key = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
        match value {
            Value::Struct(nested) if !nested.contains_key("numerator") && !nested.contains_key("denominator") => {
                walk(cx, &key, nested, values);
            }
            value => drop(values.insert(cx.intern(&key), value)),
        }
    }
}

/// The limits on connections among the runtime's values.
pub fn connection_limits(cx: &mut Cx, runtime: &Runtime) -> ConnectionLimits {
    let mut limits = ConnectionLimits::default();
    for (key, value) in &runtime.values {
        let Some(scope) = scope(cx, key) else { continue };
        match (limit(value), scope) {
            (Some(most), Scope::Process) => limits.process = Some(most),
            (Some(most), Scope::Listener(name)) => drop(limits.listeners.insert(name, most)),
            (None, _) => cx.error_at(key, "must be a whole number that is not negative"),
        }
    }
    limits
}

/// Warns of the keys that nothing static has asked for.
pub fn warn_of_unread(cx: &mut Cx, runtime: &Runtime) {
    for key in runtime.values.keys() {
        if !cx.has_asked(key) && scope(cx, key).is_none() {
            cx.ignore(key);
        }
    }
}

fn scope(cx: &mut Cx, key: &str) -> Option<Scope> {
    if key == PROCESS {
        return Some(Scope::Process);
    }
    let name = key.strip_prefix(OF_A_LISTENER.0)?.strip_suffix(OF_A_LISTENER.1)?;
    (!name.is_empty()).then(|| Scope::Listener(cx.intern(name)))
}

fn limit(value: &Value) -> Option<u64> {
    /// Up to here an `f64` tells whole numbers apart.
    const EXACT: f64 = (1_u64 << 53) as f64;
    match value {
        Value::Number(number) => ((0.0..=EXACT).contains(number) && number.fract() == 0.0).then_some(*number as u64),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
