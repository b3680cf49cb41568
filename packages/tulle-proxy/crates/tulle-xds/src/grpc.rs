//! gRPC messages as bytes, and the header fields that answers may hold.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core_pb;

/// One message behind its length (gRPC over HTTP/2, "Length-Prefixed-Message").
pub fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = Vec::with_capacity(5 + length);
    out.push(0);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&message.encode_to_vec());
    out.into()
}

/// The one message that `bytes` hold; `None` when they hold anything else.
pub fn unframed<M: prost::Message + Default>(bytes: &[u8]) -> Option<M> {
    let (prefix, message) = bytes.split_at_checked(5)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || message.len() != length {
        return None;
    }
    M::decode(message).ok()
}

/// A header field that can be one: what could end it early, or stand for something else, is none.
pub fn field(header: core_pb::HeaderValue) -> Option<(String, Vec<u8>)> {
    let value = if header.raw_value.is_empty() { header.value.into_bytes() } else { header.raw_value };
    let name = header.key.to_ascii_lowercase();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let fine =
        !name.is_empty() && name.bytes().all(word) && !value.iter().any(|byte| matches!(byte, 0..=8 | 10..=31 | 127));
    fine.then_some((name, value))
}
