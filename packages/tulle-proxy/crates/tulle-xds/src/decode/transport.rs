//! How connections to a cluster's endpoints are secured, and what is told before.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use prost::Name as _;
use tulle_config::UpstreamTransport;
use tulle_config::cluster::{Proxied, ProxyVersion};
use tulle_config::listener::PassFields;

use super::cx::{Cx, refuse, type_name};
use super::protocol::ByHost;
use super::tls::upstream;

/// The longest that all fields together may be: they share the header's length with the addresses.
const MOST: usize = 0xffff - 36;

pub fn transport(cx: &mut Cx, message: core_pb::TransportSocket) -> Option<UpstreamTransport> {
    use core_pb::transport_socket::ConfigType;
    let core_pb::TransportSocket { name, config_type } = message;
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        if name == "envoy.transport_sockets.raw_buffer" {
            return Some(UpstreamTransport::Plaintext);
        }
        cx.error_at("typed_config", "is required");
        return None;
    };
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == RawBuffer::full_name() {
            Some(UpstreamTransport::Plaintext)
        } else if typed == UpstreamTlsContext::full_name() {
            let context = cx.unpack::<UpstreamTlsContext>(&any)?;
            upstream(cx, context).map(|tls| UpstreamTransport::Tls(Arc::new(tls)))
        } else if typed == ProxyProtocolUpstreamTransport::full_name() {
            let message = cx.unpack::<ProxyProtocolUpstreamTransport>(&any)?;
            proxied(cx, message).map(|proxied| UpstreamTransport::Proxied(Arc::new(proxied)))
        } else {
            cx.error(format!("the transport socket {typed} is not supported for clusters"));
            None
        }
    })
}

/// Adds what a cluster's HTTP options say of its TLS.
pub fn named(transport: &mut UpstreamTransport, names: ByHost) {
    match transport {
        UpstreamTransport::Plaintext => {}
        UpstreamTransport::Tls(tls) => {
            if names.sni || names.san {
                let tls = Arc::make_mut(tls);
                tls.auto_host_sni |= names.sni;
                tls.auto_sni_san_validation |= names.san;
            }
        }
        UpstreamTransport::Proxied(proxied) => {
            if names.sni || names.san {
                named(&mut Arc::make_mut(proxied).inner, names);
            }
        }
    }
}

fn proxied(cx: &mut Cx, message: ProxyProtocolUpstreamTransport) -> Option<Proxied> {
    use core_pb::proxy_protocol_config::Version;
    let ProxyProtocolUpstreamTransport { config, transport_socket, allow_unspecified_address, tlv_as_pool_key } =
        message;
    refuse!(cx; allow_unspecified_address, tlv_as_pool_key);
    let socket = cx.required("transport_socket", transport_socket)?;
    let inner = cx.field("transport_socket", |cx| transport(cx, socket))?;
    if inner.proxied().is_some() {
        cx.error_at("transport_socket", "cannot be a PROXY protocol transport again");
    }
    let core_pb::ProxyProtocolConfig { version, pass_through_tlvs, added_tlvs } = config.unwrap_or_default();
    cx.field("config", |cx| {
        let version = match cx.enumeration::<Version>("version", version)? {
            Version::V1 => ProxyVersion::V1,
            Version::V2 => ProxyVersion::V2,
        };
        let tlvs = cx.each("added_tlvs", added_tlvs, tlv).concat();
        if tlvs.len() > MOST || (version == ProxyVersion::V1 && !tlvs.is_empty()) {
            cx.error_at("added_tlvs", format!("go with version 2, and take at most {MOST} bytes"));
        }
        let pass = passed(cx, pass_through_tlvs)?;
        if version == ProxyVersion::V1 && pass != PassFields::None {
            cx.error_at("pass_through_tlvs", "goes with version 2");
        }
        Some(Proxied { version, tlvs: tlvs.into(), pass, inner })
    })
}

/// Which fields of a PROXY header pass on.
pub fn passed(cx: &mut Cx, message: Option<core_pb::ProxyProtocolPassThroughTlVs>) -> Option<PassFields> {
    use core_pb::proxy_protocol_pass_through_tl_vs::PassTlVsMatchType as Match;
    let Some(core_pb::ProxyProtocolPassThroughTlVs { match_type, tlv_type }) = message else {
        return Some(PassFields::None);
    };
    cx.field("pass_through_tlvs", |cx| match cx.enumeration::<Match>("match_type", match_type)? {
        Match::IncludeAll => Some(PassFields::All),
        Match::Include => {
            let kind = |cx: &mut Cx, kind: u32| {
                u8::try_from(kind).map_err(|_| cx.error(format!("{kind} is not below 256"))).ok()
            };
            Some(PassFields::Only(cx.each("tlv_type", tlv_type, kind).into()))
        }
    })
}

/// Type, length and value as they are sent.
fn tlv(cx: &mut Cx, message: core_pb::TlvEntry) -> Option<Vec<u8>> {
    let core_pb::TlvEntry { r#type, value, format_string } = message;
    refuse!(cx; format_string);
    let kind = u8::try_from(r#type).ok();
    let length = u16::try_from(value.len()).ok();
    let (Some(kind), Some(length)) = (kind, length) else {
        cx.error("the type must be below 256 and the value at most 65535 bytes long");
        return None;
    };
    Some([&[kind], &length.to_be_bytes()[..], &value].concat())
}
