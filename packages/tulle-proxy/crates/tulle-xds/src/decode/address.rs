//! Addresses, network namespaces and IP ranges.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use tulle_config::Cidr;
use tulle_config::cluster::Bind;
use tulle_config::listener::Place;
use tulle_core::{Address, Str};

use super::common::uint;
use super::cx::{Cx, refuse, without_effect};

/// An address that is present and complete. A name is accepted only where `Names::Resolved` says a resolver runs.
pub fn address(cx: &mut Cx, message: Option<core_pb::Address>, names: Names) -> Option<Address> {
    use core_pb::address::Address as Kind;
    match cx.required("address", message?.address)? {
        Kind::SocketAddress(socket) => cx.field("socket_address", |cx| socket_address(cx, socket, names)),
        Kind::Pipe(core_pb::Pipe { path, mode }) => {
            without_effect!(cx; mode);
            if path.starts_with('@') {
                cx.error_at("pipe.path", "abstract sockets are not supported");
                return None;
            }
            cx.name("pipe.path", &path).map(Address::Pipe)
        }
        Kind::EnvoyInternalAddress(_) => {
            cx.refuse("envoy_internal_address");
            None
        }
    }
}

/// Where a listener's socket is made.
pub fn place(cx: &mut Cx, message: core_pb::Address) -> Option<Place> {
    use core_pb::address::Address as Kind;
    let mut message = message;
    let path = match &mut message.address {
        Some(Kind::SocketAddress(socket)) => std::mem::take(&mut socket.network_namespace_filepath),
        _ => String::new(),
    };
    let namespace = cx.field("socket_address", |cx| namespace(cx, &path));
    let address = address(cx, Some(message), Names::Refused)?;
    Some(Place { address, namespace: namespace? })
}

/// Where a cluster's sockets are made.
pub fn source(cx: &mut Cx, message: core_pb::SocketAddress) -> Option<Bind> {
    let mut message = message;
    let path = std::mem::take(&mut message.network_namespace_filepath);
    let namespace = namespace(cx, &path);
    let address = socket_address(cx, message, Names::Refused)?.socket()?;
    Some(Bind { address, namespace: namespace? })
}

/// A namespace that can be entered; `None` after an error. Whether it can is the one thing that decoding asks the system:
/// a proxy that took the resource all the same would neither listen nor call, and nobody would be told.
fn namespace(cx: &mut Cx, path: &str) -> Option<Option<Str>> {
    if path.is_empty() {
        return Some(None);
    }
    if let Err(error) = tulle_netns::check(path) {
        cx.error_at("network_namespace_filepath", error.to_string());
        return None;
    }
    Some(Some(cx.intern(path)))
}

/// Whether an address may be a DNS name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Refused,
    Resolved,
}

fn socket_address(cx: &mut Cx, message: core_pb::SocketAddress, names: Names) -> Option<Address> {
    use core_pb::socket_address::{PortSpecifier, Protocol};
    let core_pb::SocketAddress {
        protocol,
        address,
        resolver_name,
        ipv4_compat,
        network_namespace_filepath,
        port_specifier,
    } = message;
    refuse!(cx; resolver_name, network_namespace_filepath);
    without_effect!(cx; ipv4_compat);
    if cx.enumeration::<Protocol>("protocol", protocol)? == Protocol::Udp {
        cx.error_at("protocol", "UDP is not supported");
    }
    let port = match cx.required("port_value", port_specifier)? {
        PortSpecifier::PortValue(port) => u16::try_from(port).ok(),
        PortSpecifier::NamedPort(_) => {
            cx.refuse("named_port");
            return None;
        }
    };
    let Some(port) = port else {
        cx.error_at("port_value", "is beyond 65535");
        return None;
    };
    match address.parse::<IpAddr>() {
        Ok(ip) => Some(Address::Ip(SocketAddr::new(ip, port))),
        Err(_) if names == Names::Resolved => cx.name("address", &address).map(|host| Address::Name { host, port }),
        Err(_) => {
            cx.error_at("address", format!("{address:?} is not an IP address (a name needs a DNS cluster)"));
            None
        }
    }
}

pub fn cidr(cx: &mut Cx, message: core_pb::CidrRange) -> Option<Cidr> {
    let core_pb::CidrRange { address_prefix, prefix_len } = message;
    let Ok(ip) = address_prefix.parse::<IpAddr>() else {
        cx.error_at("address_prefix", format!("{address_prefix:?} is not an IP address"));
        return None;
    };
    // An absent length is zero, which matches everything, as in Envoy.
    let range = u8::try_from(uint(prefix_len).unwrap_or(0)).ok().and_then(|length| Cidr::new(ip, length));
    if range.is_none() {
        cx.error_at("prefix_len", "is longer than the address");
    }
    range
}

/// A list of names interned and in lower case.
pub fn lower_case(cx: &mut Cx, names: Vec<String>) -> Vec<Str> {
    names.into_iter().map(|name| cx.intern(&name.to_ascii_lowercase())).collect()
}
