//! The bootstrap's `overload_manager`: resource monitors, and the actions that they trigger.

use std::time::Duration;

use envoy_types::pb::envoy::config::overload::v3 as overload_pb;
use envoy_types::pb::envoy::extensions::resource_monitors::cgroup_memory::v3::CgroupMemoryConfig;
use envoy_types::pb::envoy::extensions::resource_monitors::downstream_connections::v3::DownstreamConnectionsConfig;
use envoy_types::pb::envoy::extensions::resource_monitors::fixed_heap::v3::FixedHeapConfig;
use envoy_types::pb::google::protobuf::Any;
use prost::Name as _;
use tulle_config::OverloadManager;
use tulle_config::overload::Monitor;
use tulle_policy::overload::{Action, ActionKind, ShedPoint, Trigger};

use crate::decode::Cx;
use crate::decode::statics::{refuse, type_name};

/// Envoy's default.
const REFRESH: Duration = Duration::from_secs(1);
const CONNECTIONS: &str = "envoy.resource_monitors.global_downstream_max_connections";

pub fn overload_manager(cx: &mut Cx, message: overload_pb::OverloadManager) -> Option<OverloadManager> {
    let overload_pb::OverloadManager {
        refresh_interval,
        resource_monitors,
        actions,
        loadshed_points,
        buffer_factory_config,
    } = message;
    refuse!(cx; buffer_factory_config);
    let mut manager = OverloadManager {
        refresh: cx.duration("refresh_interval", refresh_interval).unwrap_or(REFRESH),
        monitors: Box::default(),
        max_connections: None,
        actions: Box::default(),
    };
    if manager.refresh.is_zero() {
        cx.error_at("refresh_interval", "must be more than zero");
    }
    let (mut names, mut monitors) = (Vec::new(), Vec::new());
    for (name, monitor) in cx.each("resource_monitors", resource_monitors, monitor) {
        match monitor {
            Watched::Resource(monitor) => {
                names.push(name);
                monitors.push(monitor);
            }
            Watched::Connections(most) => manager.max_connections = Some(most),
        }
    }
    manager.monitors = monitors.into();
    let mut actions = cx.each("actions", actions, |cx, one| action(cx, one, &names));
    actions.extend(cx.each("loadshed_points", loadshed_points, |cx, one| shed_point(cx, one, &names)));
    manager.actions = actions.into();
    Some(manager)
}

enum Watched {
    Resource(Monitor),
    /// The most of them; they are counted where they come.
    Connections(u64),
}

fn monitor(cx: &mut Cx, message: overload_pb::ResourceMonitor) -> Option<(String, Watched)> {
    use overload_pb::resource_monitor::ConfigType;
    let overload_pb::ResourceMonitor { name, config_type } = message;
    let ConfigType::TypedConfig(any) = cx.required("typed_config", config_type)?;
    let monitor = cx.field("typed_config", |cx| monitor_of(cx, &any))?;
    cx.name("name", &name)?;
    Some((name, monitor))
}

fn monitor_of(cx: &mut Cx, any: &Any) -> Option<Watched> {
    let typed = type_name(&any.type_url);
    if typed == FixedHeapConfig::full_name() {
        let FixedHeapConfig { max_heap_size_bytes, max_heap_size_bytes_runtime } = cx.unpack(any)?;
        if max_heap_size_bytes_runtime.is_some() {
            cx.refuse("max_heap_size_bytes_runtime");
        }
        if max_heap_size_bytes == 0 {
            cx.error_at("max_heap_size_bytes", "must be more than zero");
        }
        Some(Watched::Resource(Monitor::Heap(max_heap_size_bytes)))
    } else if typed == CgroupMemoryConfig::full_name() {
        let CgroupMemoryConfig { max_memory_bytes } = cx.unpack(any)?;
        Some(Watched::Resource(Monitor::Cgroup((max_memory_bytes > 0).then_some(max_memory_bytes))))
    } else if typed == DownstreamConnectionsConfig::full_name() {
        let DownstreamConnectionsConfig { max_active_downstream_connections: most } = cx.unpack(any)?;
        match u64::try_from(most).ok().filter(|most| *most > 0) {
            Some(most) => Some(Watched::Connections(most)),
            None => {
                cx.error_at("max_active_downstream_connections", "must be more than zero");
                None
            }
        }
    } else {
        cx.error(format!("the resource monitor {typed} is not supported"));
        None
    }
}

fn action(cx: &mut Cx, message: overload_pb::OverloadAction, resources: &[String]) -> Option<Action> {
    let overload_pb::OverloadAction { name, triggers, typed_config } = message;
    if typed_config.is_some() {
        cx.refuse("typed_config");
    }
    let kind = match &*name {
        "envoy.overload_actions.stop_accepting_requests" => ActionKind::StopAcceptingRequests,
        "envoy.overload_actions.disable_http_keepalive" => ActionKind::DisableKeepAlive,
        "envoy.overload_actions.stop_accepting_connections" => ActionKind::StopAcceptingConnections,
        "envoy.overload_actions.reject_incoming_connections" => ActionKind::RejectIncomingConnections,
        "envoy.overload_actions.shrink_heap" => ActionKind::ShrinkHeap,
        _ => {
            cx.error_at("name", format!("the action {name:?} is not supported"));
            return None;
        }
    };
    Some(Action { kind, triggers: triggers_of(cx, triggers, resources) })
}

fn shed_point(cx: &mut Cx, message: overload_pb::LoadShedPoint, resources: &[String]) -> Option<Action> {
    let overload_pb::LoadShedPoint { name, triggers } = message;
    let point = match &*name {
        "envoy.load_shed_points.tcp_listener_accept" => ShedPoint::Accept,
        "envoy.load_shed_points.hcm_ondata_creating_codec"
        | "envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch" => ShedPoint::FirstBytes,
        "envoy.load_shed_points.http1_server_abort_dispatch" => ShedPoint::Http1,
        "envoy.load_shed_points.http2_server_go_away_on_dispatch" => ShedPoint::Http2,
        "envoy.load_shed_points.http_connection_manager_decode_headers"
        | "envoy.load_shed_points.http_downstream_filter_check" => ShedPoint::Head,
        "envoy.load_shed_points.connection_pool_new_connection" => ShedPoint::Dial,
        _ => {
            cx.error_at("name", format!("the load-shed point {name:?} is not supported"));
            return None;
        }
    };
    Some(Action { kind: ActionKind::Shed(point), triggers: triggers_of(cx, triggers, resources) })
}

fn triggers_of(cx: &mut Cx, messages: Vec<overload_pb::Trigger>, resources: &[String]) -> Box<[(usize, Trigger)]> {
    if messages.is_empty() {
        cx.error_at("triggers", "must not be empty");
    }
    cx.each("triggers", messages, |cx, one| trigger(cx, one, resources)).into()
}

fn trigger(cx: &mut Cx, message: overload_pb::Trigger, resources: &[String]) -> Option<(usize, Trigger)> {
    use overload_pb::trigger::TriggerOneof;
    let overload_pb::Trigger { name, trigger_oneof } = message;
    let at = resources.iter().position(|known| *known == name);
    if at.is_none() {
        let why =
            if name == CONNECTIONS { "has no pressure: it closes connections by itself" } else { "is not watched" };
        cx.error_at("name", format!("{name:?} {why}"));
    }
    let share = |value: f64| (0.0..=1.0).contains(&value);
    let trigger = match cx.required("trigger_oneof", trigger_oneof)? {
        TriggerOneof::Threshold(overload_pb::ThresholdTrigger { value }) => {
            if !share(value) {
                cx.error_at("threshold.value", format!("{value} is not between 0 and 1"));
            }
            Trigger::Threshold(value)
        }
        TriggerOneof::Scaled(overload_pb::ScaledTrigger { scaling_threshold: from, saturation_threshold: full }) => {
            if !share(from) || !share(full) || from >= full {
                cx.error_at("scaled", "scaling_threshold must be less than saturation_threshold, both from 0 to 1");
            }
            Trigger::Scaled { from, full }
        }
    };
    Some((at?, trigger))
}
