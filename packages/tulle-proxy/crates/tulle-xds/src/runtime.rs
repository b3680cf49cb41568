//! The bootstrap's `layered_runtime`, of which the limits on connections have an effect here.

use envoy_types::pb::envoy::config::bootstrap::v3 as boot_pb;
use tulle_config::ConnectionLimits;
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

/// The limits that the static layers set; a later layer overrides an earlier one. What other keys say has no effect, and
/// layers that come from a disk, a control plane or the admin endpoint are not read: both are warned about.
pub fn connection_limits(cx: &mut Cx, message: boot_pb::LayeredRuntime) -> ConnectionLimits {
    let boot_pb::LayeredRuntime { layers } = message;
    let mut limits = ConnectionLimits::default();
    for (scope, most) in cx.each("layers", layers, layer).into_iter().flatten() {
        match scope {
            Scope::Process => limits.process = Some(most),
            Scope::Listener(name) => drop(limits.listeners.insert(name, most)),
        }
    }
    limits
}

fn layer(cx: &mut Cx, message: boot_pb::RuntimeLayer) -> Option<Vec<(Scope, u64)>> {
    use boot_pb::runtime_layer::LayerSpecifier;
    let boot_pb::RuntimeLayer { name, layer_specifier } = message;
    cx.name("name", &name)?;
    let mut limits = Vec::new();
    match layer_specifier {
        Some(LayerSpecifier::StaticLayer(values)) => {
            cx.field("static_layer", |cx| walk(cx, "", &struct_to_map(values), &mut limits));
        }
        _ => cx.warn("has no effect: only static layers are read"),
    }
    Some(limits)
}

/// Keys may be written with dots or as nested structures.
fn walk(cx: &mut Cx, above: &str, values: &Struct, limits: &mut Vec<(Scope, u64)>) {
    for (name, value) in values {
        let key = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
        match (value, scope(cx, &key)) {
            (Value::Struct(nested), _) => walk(cx, &key, nested, limits),
            (_, None) => cx.ignore(&key),
            (value, Some(scope)) => match limit(value) {
                Some(most) => limits.push((scope, most)),
                None => cx.error_at(&key, "must be a whole number that is not negative"),
            },
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
