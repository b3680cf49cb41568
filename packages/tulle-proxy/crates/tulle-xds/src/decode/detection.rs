//! What tells who the client is: `original_ip_detection_extensions`.

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::extensions::http::original_ip_detection::custom_header::v3::CustomHeaderConfig;
use envoy_types::pb::envoy::extensions::http::original_ip_detection::xff::v3::{XffConfig, XffTrustedCidrs};
use prost::Name as _;
use tulle_config::hcm::{ClientHeader, Detection, Xff};

use super::address::cidr;
use super::common::truth;
use super::cx::{Cx, type_name};

/// What Envoy answers where only an unusable status is configured.
const FORBIDDEN: u16 = 403;

pub fn extension(cx: &mut Cx, message: core_pb::TypedExtensionConfig) -> Option<Detection> {
    let core_pb::TypedExtensionConfig { name, typed_config } = message;
    let any = cx.required("typed_config", typed_config)?;
    let typed = type_name(&any.type_url);
    cx.field("typed_config", |cx| {
        if typed == XffConfig::full_name() {
            cx.unpack::<XffConfig>(&any).and_then(|message| xff(cx, message)).map(Detection::Xff)
        } else if typed == CustomHeaderConfig::full_name() {
            cx.unpack::<CustomHeaderConfig>(&any).and_then(|message| header(cx, message)).map(Detection::Header)
        } else {
            cx.error(format!("the detection extension {name:?} is not supported"));
            None
        }
    })
}

fn xff(cx: &mut Cx, message: XffConfig) -> Option<Xff> {
    let XffConfig { xff_num_trusted_hops, xff_trusted_cidrs, skip_xff_append } = message;
    let by_address = xff_trusted_cidrs.is_some();
    if by_address && xff_num_trusted_hops > 0 {
        cx.error_at("xff_trusted_cidrs", "cannot stand beside xff_num_trusted_hops");
        return None;
    }
    let XffTrustedCidrs { cidrs } = xff_trusted_cidrs.unwrap_or_default();
    let trusted = cx.field("xff_trusted_cidrs", |cx| cx.each("cidrs", cidrs, cidr));
    if by_address && trusted.is_empty() {
        cx.error_at("xff_trusted_cidrs", "must name at least one range");
        return None;
    }
    Some(Xff { hops: xff_num_trusted_hops, trusted, append: !truth(skip_xff_append, true) })
}

fn header(cx: &mut Cx, message: CustomHeaderConfig) -> Option<ClientHeader> {
    let CustomHeaderConfig { header_name, allow_extension_to_set_address_as_trusted, reject_with_status } = message;
    // As Envoy: what is no error is answered as one all the same.
    let status = |code: i32| u16::try_from(code).ok().filter(|code| (400..=511).contains(code)).unwrap_or(FORBIDDEN);
    Some(ClientHeader {
        name: cx.name("header_name", &header_name.to_ascii_lowercase())?,
        trusted: allow_extension_to_set_address_as_trusted,
        reject: reject_with_status.map(|wanted| status(wanted.code)),
    })
}
