"""Assembled responses are what protobuf would have made; hostile requests raise one kind of error."""

from __future__ import annotations

from delivery_fakes import CDS, FakeResource
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tulle.delivery.session import Push
from tulle.delivery.wire import delta_response, parse_delta, parse_sotw, sotw_response
from tulle.protos import message

ANY = message("google.protobuf.Any")
TEXT = st.text(max_size=300)
RESOURCES = st.lists(
    st.builds(
        lambda name, version, value: FakeResource(
            name, version, ANY(type_url=CDS, value=value).SerializeToString()
        ),
        TEXT,
        TEXT,
        st.binary(max_size=300),
    ),
    max_size=4,
)


@given(RESOURCES, TEXT, st.lists(TEXT, max_size=4))
def test_delta_responses_read_back(resources: list[FakeResource], nonce: str, removed: list[str]) -> None:
    data = delta_response(Push(CDS, nonce, tuple(resources), tuple(removed)))
    found = message("envoy.service.discovery.v3.DeltaDiscoveryResponse").FromString(data)
    assert (found.type_url, found.nonce, list(found.removed_resources)) == (CDS, nonce, removed)
    read = [(each.name, each.version, each.resource.SerializeToString()) for each in found.resources]
    assert read == [(each.name, each.version, each.body) for each in resources]
    assert found.control_plane.identifier == "tulle"


@given(RESOURCES, TEXT, TEXT)
def test_sotw_responses_read_back(resources: list[FakeResource], nonce: str, version: str) -> None:
    data = sotw_response(Push(CDS, nonce, tuple(resources), version=version))
    found = message("envoy.service.discovery.v3.DiscoveryResponse").FromString(data)
    assert (found.type_url, found.nonce, found.version_info) == (CDS, nonce, version)
    assert [each.SerializeToString() for each in found.resources] == [each.body for each in resources]


def test_long_resources_are_framed_right() -> None:
    body = ANY(type_url=CDS, value=b"x" * 3_000_000).SerializeToString()
    data = delta_response(Push(CDS, "1", (FakeResource("a", "1", body),)))
    found = message("envoy.service.discovery.v3.DeltaDiscoveryResponse").FromString(data)
    assert found.resources[0].resource.SerializeToString() == body


@given(st.binary(max_size=200))
def test_hostile_bytes_are_decoded_or_refused(data: bytes) -> None:
    for parse in (parse_delta, parse_sotw):
        try:
            parse(data)
        except DecodeError:
            continue


def test_a_refusal_without_a_reason_is_still_one() -> None:
    request = message("envoy.service.discovery.v3.DeltaDiscoveryRequest")(type_url=CDS)
    assert parse_delta(request.SerializeToString())[0].error is None
    request.error_detail.code = 3
    assert parse_delta(request.SerializeToString())[0].error == "no reason given"
