//! What services answer to questions of the data path is read strictly, and what they are asked says what was meant.

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::service::auth::v3 as auth_pb;
use envoy_types::pb::envoy::service::ratelimit::v3 as limit_pb;
use prost::Message;

use tulle_policy::descriptors::{Descriptor, LimitOverride};
use tulle_xds::{authz, limits};

/// One gRPC message: a byte that says "not compressed", four of length, the message.
fn framed(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn field(name: &str, value: &str) -> core_pb::HeaderValue {
    core_pb::HeaderValue { key: name.into(), value: value.into(), ..Default::default() }
}

fn ok_with(name: &str, value: &str) -> Vec<u8> {
    let option = core_pb::HeaderValueOption { header: Some(field(name, value)), ..Default::default() };
    let ok = auth_pb::OkHttpResponse { headers: vec![option], ..Default::default() };
    let http_response = Some(auth_pb::check_response::HttpResponse::OkResponse(ok));
    framed(&auth_pb::CheckResponse { http_response, ..Default::default() })
}

#[test]
fn answers_of_an_authorizer_are_read_strictly() {
    let Some(authz::Answer::Allowed(allowed)) = authz::answered(&ok_with("X-User", "bob")) else {
        panic!("not allowed")
    };
    assert_eq!(allowed.set, [("x-user".to_owned(), b"bob".to_vec())]);
    for (name, value) in [("x\n", "a"), ("x", "a\r\nb: c"), (":path", "/admin"), ("", "a")] {
        assert_eq!(authz::answered(&ok_with(name, value)), None, "{name:?}: {value:?}");
    }
    let mut cut = ok_with("a", "b");
    cut.pop();
    assert_eq!(authz::answered(&cut), None);
    assert_eq!(authz::answered(b""), None);
    let refused = auth_pb::CheckResponse {
        status: Some(envoy_types::pb::google::rpc::Status { code: 7, ..Default::default() }),
        ..Default::default()
    };
    let Some(authz::Answer::Refused(refused)) = authz::answered(&framed(&refused)) else { panic!("not refused") };
    assert_eq!(refused.status, 403);
}

#[test]
fn answers_of_a_rate_limit_service_are_read_strictly() {
    let with = |code, name: &str| {
        framed(&limit_pb::RateLimitResponse {
            overall_code: code,
            response_headers_to_add: vec![field(name, "1")],
            ..Default::default()
        })
    };
    assert!(limits::answered(&with(2, "x-a")).is_some_and(|answer| answer.over));
    assert!(limits::answered(&with(1, "x-a")).is_some_and(|answer| !answer.over));
    assert_eq!(limits::answered(&with(0, "x-a")), None, "no decision");
    assert_eq!(limits::answered(&with(9, "x-a")), None, "an unknown one");
    assert_eq!(limits::answered(&with(1, "x\r\n")), None);
    assert_eq!(limits::answered(b""), None);
}

#[test]
fn a_rate_limit_service_is_asked_with_the_domain_and_the_entries() {
    let entries = vec![("user", b"bob".as_slice().into()), ("bytes", vec![0xff].into())];
    let limit = Some(LimitOverride { requests: 7, unit: "MINUTE" });
    let question = limits::ask("d", &[Descriptor { entries, hits: Some(3), limit }]);
    let asked = limit_pb::RateLimitRequest::decode(&question[5..]).unwrap();
    let entries = &asked.descriptors[0].entries;
    assert_eq!(asked.descriptors[0].hits_addend.map(|hits| hits.value), Some(3));
    assert_eq!(asked.descriptors[0].limit.map(|limit| (limit.requests_per_unit, limit.unit)), Some((7, 2)));
    assert_eq!((&*asked.domain, asked.descriptors.len()), ("d", 1));
    assert_eq!((&*entries[0].key, &*entries[0].value), ("user", "bob"));
    assert_eq!(&*entries[1].value, "\u{fffd}");
}
