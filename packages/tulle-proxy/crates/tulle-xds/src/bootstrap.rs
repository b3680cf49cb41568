//! A bootstrap file: YAML or JSON text to the typed bootstrap.

// Deprecated fields are destructured like all others, so that none is skipped.
#![allow(deprecated)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::bootstrap::v3 as boot_pb;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use tulle_config::{AdsConfig, Bootstrap, Files, Node, Patience, StaticResources, Variant};
use tulle_core::{Address, Str};

use crate::decode::statics::{self, refuse, without_effect};
use crate::decode::{Cx, Finding};
use crate::json::{JsonError, Messages, pack};
use crate::overload::overload_manager;
use crate::runtime::{connection_limits, runtime, warn_of_unread};

/// Why a bootstrap was refused.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("{}", list(.0))]
    Invalid(Vec<Finding>),
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}

/// A bootstrap, and the message it was made from, which `/config_dump` shows.
#[derive(Debug)]
pub struct Loaded {
    pub bootstrap: Bootstrap,
    /// The whole message, packed.
    pub packed: Packed,
}

/// A serialized message and its type.
#[derive(Clone, Debug)]
pub struct Packed {
    pub type_url: Cow<'static, str>,
    pub bytes: Arc<[u8]>,
}

impl Packed {
    pub fn new<M: prost::Message + prost::Name>(message: &M) -> Packed {
        let any = pack(message);
        Packed { type_url: any.type_url.into(), bytes: any.value.into() }
    }
}

/// A bootstrap as it was written, not checked yet.
pub struct Unchecked(boot_pb::Bootstrap);

/// Reads and checks a bootstrap.
pub fn load(text: &str) -> Result<Loaded, BootstrapError> {
    check(read(text)?)
}

/// Reads a bootstrap's text. What that takes is many times what stays of it.
pub fn read(text: &str) -> Result<Unchecked, BootstrapError> {
    Ok(Unchecked(Messages::load().parse(text)?))
}

/// Checks a bootstrap and makes what stays of it.
pub fn check(Unchecked(message): Unchecked) -> Result<Loaded, BootstrapError> {
    let packed = Packed::new(&message);
    let mut cx = Cx::new();
    let bootstrap = bootstrap(&mut cx, message);
    let (mut bootstrap, warnings) = cx.finish(bootstrap).map_err(BootstrapError::Invalid)?;
    bootstrap.warnings = warnings.iter().map(Finding::to_string).collect();
    Ok(Loaded { bootstrap, packed })
}

fn bootstrap(cx: &mut Cx, message: boot_pb::Bootstrap) -> Option<Bootstrap> {
    let message = supported(cx, message);
    let runtime = match message.layered_runtime {
        Some(layers) => Arc::new(cx.field("layered_runtime", |cx| runtime(cx, layers))),
        None => Arc::default(),
    };
    cx.set_runtime(runtime.clone());
    let resources = message.static_resources.unwrap_or_default();
    cx.validates_tables = true;
    let resources = cx.field("static_resources", |cx| StaticResources {
        listeners: cx.each("listeners", resources.listeners, |cx, one| statics::listener(cx, one).map(Arc::new)),
        clusters: cx.each("clusters", resources.clusters, |cx, one| statics::cluster(cx, one).map(Arc::new)),
        secrets: cx.each("secrets", resources.secrets, |cx, one| {
            statics::secret(cx, one).map(|(name, secret)| (name, Arc::new(secret)))
        }),
    });
    unique(cx, "static_resources.clusters", resources.clusters.iter().map(|cluster| &cluster.name));
    for listener in &resources.listeners {
        for (path, name) in listener.tables().flat_map(|table| &table.validated) {
            if !resources.clusters.iter().any(|cluster| cluster.name == *name) {
                let text =
                    format!("the static cluster {name:?} does not exist (validate_clusters: false lets it be absent)");
                cx.error_at(path, text);
            }
        }
    }
    unique(cx, "static_resources.listeners", resources.listeners.iter().map(|listener| &listener.name));
    let nothing = boot_pb::bootstrap::DynamicResources::default();
    let (ads, files) = match message.dynamic_resources.filter(|dynamic| *dynamic != nothing) {
        Some(dynamic) => cx.field("dynamic_resources", |cx| dynamic_resources(cx, dynamic)),
        None => (None, Files::default()),
    };
    if let Some(ads) = &ads
        && !resources.clusters.iter().any(|cluster| cluster.name == ads.cluster)
    {
        let message = format!("the static cluster {:?} does not exist", ads.cluster);
        cx.error_at("dynamic_resources.ads_config", message);
    }
    let has_ads = ads.is_some();
    Some(Bootstrap {
        node: cx.field("node", |cx| node(cx, message.node.unwrap_or_default())),
        admin: match message.admin {
            Some(admin) => cx.field("admin", |cx| admin_address(cx, admin)),
            None => None,
        },
        resources,
        ads,
        files,
        local_cluster: message
            .cluster_manager
            .and_then(|manager| cx.field("cluster_manager", |cx| local_cluster(cx, manager))),
        overload: message
            .overload_manager
            .and_then(|manager| cx.field("overload_manager", |cx| overload_manager(cx, manager))),
        connections: cx.field("layered_runtime", |cx| {
            if !has_ads {
                warn_of_unread(cx, &runtime);
            }
            connection_limits(cx, &runtime)
        }),
        runtime,
        warnings: Vec::new(),
    })
}

fn unique<'a>(cx: &mut Cx, field: &str, names: impl Iterator<Item = &'a Str>) {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            cx.error_at(field, format!("{name:?} appears twice"));
        }
    }
}

/// Reports every field that is set and has no effect here, and gives the message back.
#[rustfmt::skip]
fn supported(cx: &mut Cx, message: boot_pb::Bootstrap) -> boot_pb::Bootstrap {
    let boot_pb::Bootstrap {
        node: _, static_resources: _, dynamic_resources: _, admin: _, cluster_manager: _, overload_manager: _,
        layered_runtime: _,
        node_context_params, hds_config, flags_path, stats_sinks, deferred_stat_options,
        stats_config, stats_flush_interval, watchdog, watchdogs, tracing,
        enable_dispatcher_stats, header_prefix, stats_server_version_override, use_tcp_for_dns_lookups,
        dns_resolution_config, typed_dns_resolver_config, bootstrap_extensions, fatal_actions, config_sources,
        default_config_source, default_socket_interface, certificate_provider_instances, inline_headers,
        perf_tracing_file_path, default_regex_engine, xds_delegate_extension, xds_config_tracker_extension,
        listener_manager, application_log_config, grpc_async_client_manager_config, memory_allocator_manager,
        enable_worker_cpu_affinity, stats_flush, stats_eviction,
    } = &message;
    let stats_server_version_override = stats_server_version_override.as_ref();
    refuse!(cx; hds_config, tracing, header_prefix, config_sources, default_config_source,
        certificate_provider_instances, xds_delegate_extension, default_socket_interface);
    without_effect!(cx; node_context_params, flags_path, stats_sinks, deferred_stat_options, stats_config,
        stats_flush_interval, watchdog, watchdogs, enable_dispatcher_stats,
        stats_server_version_override, use_tcp_for_dns_lookups, dns_resolution_config, typed_dns_resolver_config,
        bootstrap_extensions, fatal_actions, inline_headers, perf_tracing_file_path, default_regex_engine,
        xds_config_tracker_extension, listener_manager, application_log_config, grpc_async_client_manager_config,
        memory_allocator_manager, enable_worker_cpu_affinity, stats_flush, stats_eviction);
    message
}

fn local_cluster(cx: &mut Cx, message: boot_pb::ClusterManager) -> Option<Str> {
    let boot_pb::ClusterManager {
        local_cluster_name,
        outlier_detection,
        upstream_bind_config,
        load_stats_config,
        enable_deferred_cluster_creation,
    } = message;
    refuse!(cx; upstream_bind_config);
    without_effect!(cx; outlier_detection, load_stats_config, enable_deferred_cluster_creation);
    (!local_cluster_name.is_empty()).then(|| cx.intern(&local_cluster_name))
}

fn node(cx: &mut Cx, message: core_pb::Node) -> Node {
    let core_pb::Node {
        id,
        cluster,
        metadata,
        dynamic_parameters: _,
        locality,
        user_agent_name: _,
        extensions: _,
        client_features: _,
        listening_addresses: _,
        user_agent_version_type: _,
    } = message;
    Node {
        id: cx.intern(&id),
        cluster: cx.intern(&cluster),
        metadata: metadata.map_or_else(BTreeMap::new, statics::struct_to_map),
        locality: statics::locality(cx, locality),
    }
}

fn admin_address(cx: &mut Cx, message: boot_pb::Admin) -> Option<Address> {
    let boot_pb::Admin {
        access_log,
        access_log_path,
        profile_path,
        address,
        socket_options,
        ignore_global_conn_limit,
        allow_paths,
    } = message;
    refuse!(cx; socket_options, allow_paths);
    without_effect!(cx; access_log, access_log_path, profile_path, ignore_global_conn_limit);
    let address = cx.required("address", address)?;
    cx.field("address", |cx| statics::address(cx, Some(address), statics::Names::Refused))
}

/// Where listeners and clusters come from.
enum From {
    Nowhere,
    Ads(Patience),
    File(Str),
}

impl From {
    fn stream(&self) -> Option<Patience> {
        if let From::Ads(patience) = self { Some(*patience) } else { None }
    }

    fn file(self) -> Option<Str> {
        if let From::File(path) = self { Some(path) } else { None }
    }
}

/// A control plane, which is needed where something comes from it, and the files that stand in its place.
fn dynamic_resources(cx: &mut Cx, message: boot_pb::bootstrap::DynamicResources) -> (Option<AdsConfig>, Files) {
    let boot_pb::bootstrap::DynamicResources {
        lds_config,
        lds_resources_locator,
        cds_config,
        cds_resources_locator,
        ads_config,
    } = message;
    refuse!(cx; lds_resources_locator, cds_resources_locator);
    let mut from = |name: &str, source: Option<core_pb::ConfigSource>| {
        let Some(source) = source else { return From::Nowhere };
        cx.field(name, |cx| match statics::file(cx, &source) {
            None => From::Nowhere,
            Some(Some(path)) => From::File(path),
            Some(None) => From::Ads(statics::patience(cx, source)),
        })
    };
    let (listeners, clusters) = (from("lds_config", lds_config), from("cds_config", cds_config));
    let streamed = (listeners.stream(), clusters.stream());
    let ads = match ads_config {
        None if streamed == (None, None) => None,
        api => {
            let api = cx.required("ads_config", api);
            api.and_then(|api| cx.field("ads_config", |cx| ads(cx, api, streamed)))
        }
    };
    (ads, Files { listeners: listeners.file(), clusters: clusters.file() })
}

fn ads(
    cx: &mut Cx,
    api: core_pb::ApiConfigSource,
    (listeners, clusters): (Option<Patience>, Option<Patience>),
) -> Option<AdsConfig> {
    use core_pb::api_config_source::ApiType;
    use core_pb::grpc_service::TargetSpecifier;
    let variant = match cx.enumeration::<ApiType>("api_type", api.api_type)? {
        ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => Variant::Delta,
        ApiType::Grpc | ApiType::AggregatedGrpc => Variant::StateOfTheWorld,
        ApiType::Rest | ApiType::DeprecatedAndUnavailableDoNotUse => {
            cx.error_at("api_type", "must be DELTA_GRPC or GRPC");
            return None;
        }
    };
    let service = cx.required("grpc_services", api.grpc_services.into_iter().next())?;
    let Some(TargetSpecifier::EnvoyGrpc(target)) = service.target_specifier else {
        cx.error_at("grpc_services[0].envoy_grpc", "is required");
        return None;
    };
    Some(AdsConfig {
        cluster: cx.name("grpc_services[0].envoy_grpc.cluster_name", &target.cluster_name)?,
        initial_metadata: service
            .initial_metadata
            .iter()
            .map(|header| (cx.intern(&header.key), cx.intern(&header.value)))
            .collect(),
        variant,
        listeners,
        clusters,
    })
}
