"""SPIFFE bundle documents: ours can be read by others, theirs are checked before they are believed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from spiffe import TrustDomain, X509Bundle

from tulle.identity.bundle_document import BundleRefusedError, check_domain, described, read, write
from tulle.identity.ca import Authority
from tulle.identity.keys import new_key
from tulle.identity.names import SpiffeId, WorkloadIdentity
from tulle.identity.signer import fingerprint, new_root

NOW = datetime.now(UTC)
ROOTS = [new_root("other.example", NOW) for _ in range(2)]
PEM = "".join(each.root_pem for each in ROOTS)


def test_a_document_is_read_as_it_was_written() -> None:
    document = write(PEM, 7)
    content = json.loads(document)
    assert content["spiffe_sequence"] == 7
    assert [sorted(key) for key in content["keys"]] == [["crv", "kty", "use", "x", "x5c", "y"]] * 2
    assert read(document, NOW) == read(PEM, NOW) == PEM
    assert described(PEM)[0] == [fingerprint(each.root) for each in ROOTS]


def test_what_is_read_is_what_spiffes_client_takes_for_a_bundle() -> None:
    bundle = X509Bundle.parse(TrustDomain("other.example"), read(write(PEM, 1), NOW).encode())
    assert len(bundle.x509_authorities) == 2


def changed(**members: object) -> str:
    content = json.loads(write(ROOTS[0].root_pem, 1))
    content["keys"][0].update(members)
    return json.dumps(content)


@pytest.mark.parametrize(
    "document",
    [
        "", "{}", "[]", "nothing", '{"keys": {}}', '{"keys": []}', '{"keys": [3]}',
        changed(use="jwt-svid"), changed(x5c=[]), changed(x5c=["!"]), changed(x5c="abcd"), changed(x5c=["AAAA"]),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", " " * (1024 * 1024 + 1), "[" * 100_000,
    ],
    ids=range(15),
)
def test_what_could_vouch_for_nobody_is_refused(document: str) -> None:
    with pytest.raises(BundleRefusedError):
        read(document, NOW)


def test_an_expired_root_or_a_leaf_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefusedError, match="expired"):
        read(PEM, NOW + timedelta(days=4000))
    authority = Authority.open(tmp_path / "state", "other.example", NOW)
    identity = WorkloadIdentity(SpiffeId("other.example", "a", "b"), "b")
    leaf = authority.issue(new_key().public_key(), identity, timedelta(hours=1), NOW)
    with pytest.raises(BundleRefusedError, match="no certificate authority"):
        read(leaf.leaf_pem, NOW)


@pytest.mark.parametrize("name", ["", "Other.example", "a/b", "spiffe://a", "-a", "a" * 256, "a b"])
def test_names_of_trust_domains_are_checked(name: str) -> None:
    with pytest.raises(BundleRefusedError):
        check_domain(name)
