"""The authority: what it makes, what it ignores in requests, what it refuses to start with."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from tulle.identity.ca import Authority, half_life
from tulle.identity.files import UnsafeKeyError
from tulle.identity.keys import RequestRefusedError, new_key, requested_key, signing_request
from tulle.identity.names import NameRefusedError, SpiffeId, WorkloadIdentity
from tulle.identity.signer import MAX_LEAF_LIFE, Issued, RootUnusableError

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
IDENTITY = WorkloadIdentity(SpiffeId("cluster.local", "default", "backend"), "backend-v1", "backend", "v1")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def key_of(state: Path) -> Path:
    """Where the one root's key is."""
    [key] = (state / "ca").glob("*/root.key")
    return key


def leaf(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.chain[0].encode())


def test_the_root_is_made_once_and_only_the_owner_can_read_it(state: Path) -> None:
    root = Authority.open(state, "cluster.local", NOW).root_pem
    assert Authority.open(state, "cluster.local", NOW + timedelta(days=1)).root_pem == root
    assert stat.S_IMODE(key_of(state).stat().st_mode) == 0o600
    assert stat.S_IMODE((state / "ca").stat().st_mode) == 0o700
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_a_leaf_says_what_the_registration_says(state: Path) -> None:
    authority = Authority.open(state, "cluster.local", NOW)
    issued = authority.issue(new_key().public_key(), IDENTITY, timedelta(hours=1), NOW)
    certificate = leaf(issued)
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in san] == ["spiffe://cluster.local/ns/default/sa/backend"]
    assert certificate.subject.rfc4514_string() == "2.5.4.46=v1,OU=backend,CN=backend-v1"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_after_utc == NOW + timedelta(hours=1)
    assert half_life(issued) == NOW + timedelta(minutes=30)


def test_an_independent_verifier_accepts_a_leaf(state: Path) -> None:
    authority = Authority.open(state, "cluster.local", NOW)
    root = x509.load_pem_x509_certificate(authority.root_pem.encode())
    verifier = PolicyBuilder().store(Store([root])).time(NOW).build_client_verifier()
    issued = authority.issue(new_key().public_key(), IDENTITY, timedelta(), NOW)
    assert len(verifier.verify(leaf(issued), []).chain) == 2


@pytest.mark.parametrize("asked", [timedelta(), timedelta(days=-1), timedelta(days=365), timedelta(hours=5)])
def test_life_is_capped(state: Path, asked: timedelta) -> None:
    authority = Authority.open(state, "cluster.local", NOW)
    issued = authority.issue(new_key().public_key(), IDENTITY, asked, NOW)
    assert issued.not_after == NOW + MAX_LEAF_LIFE


def test_a_leaf_does_not_outlive_the_root(state: Path) -> None:
    authority = Authority.open(state, "cluster.local", NOW)
    late = NOW + timedelta(days=3650, minutes=-10)
    issued = authority.issue(new_key().public_key(), IDENTITY, timedelta(), late)
    root = x509.load_pem_x509_certificate(authority.root_pem.encode())
    assert issued.not_after == root.not_valid_after_utc


def test_the_control_plane_certificate_answers_to_its_server_name(state: Path) -> None:
    authority = Authority.open(state, "cluster.local", NOW)
    issued = authority.issue_server(new_key().public_key(), ["10.0.0.1", "mesh.example"], NOW)
    root = x509.load_pem_x509_certificate(authority.root_pem.encode())
    for name in ("tulle-control-plane", "localhost", "mesh.example"):
        builder = PolicyBuilder().store(Store([root])).time(NOW)
        builder.build_server_verifier(x509.DNSName(name)).verify(leaf(issued), [])
    san = leaf(issued).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = san.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == ["spiffe://cluster.local/ns/tulle-system/sa/tulle-control-plane"]


def request_for_more(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request for a CA certificate in somebody else's name."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    other = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/prod/sa/payments")
    builder = (
        x509.CertificateSigningRequestBuilder(name)
        .add_extension(x509.SubjectAlternativeName([other]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_what_a_request_asks_for_beyond_its_key_is_ignored(state: Path) -> None:
    authority = Authority.open(state, "cluster.local", NOW)
    key = new_key()
    found = requested_key(request_for_more(key).decode())
    assert found == key.public_key()
    certificate = leaf(authority.issue(found, IDENTITY, timedelta(), NOW))
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in san] == ["spiffe://cluster.local/ns/default/sa/backend"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def forged() -> str:
    """A request whose signature is another's."""
    one, other = (x509.load_pem_x509_csr(signing_request(new_key()).encode()) for _ in "ab")
    der = one.public_bytes(serialization.Encoding.DER)
    swapped = der.replace(one.signature, other.signature)
    if len(other.signature) != len(one.signature):
        return forged()
    return x509.load_der_x509_csr(swapped).public_bytes(serialization.Encoding.PEM).decode()


def weak() -> str:
    key = rsa.generate_private_key(65537, 1024)
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("csr", "reason"),
    [
        ("", "not a signing request"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----", "not a signing"),
        ("x" * 20_000, "longer than"),
        (forged(), "not signed by its own key"),
        (weak(), "RSA key needs 2048 bits"),
    ],
    ids=["empty", "garbage", "long", "forged", "weak"],
)
def test_bad_requests_are_refused(csr: str, reason: str) -> None:
    with pytest.raises(RequestRefusedError, match=reason):
        requested_key(csr)


@pytest.mark.parametrize(
    ("path", "mode"), [("ca/*/root.key", 0o640), ("ca/*/root.key", 0o604), ("ca", 0o750), ("../state", 0o777)]
)
def test_a_key_open_to_others_is_refused(state: Path, path: str, mode: int) -> None:
    Authority.open(state, "cluster.local", NOW)
    [found] = state.glob(path) if "*" in path else [state / path]
    found.chmod(mode)
    with pytest.raises(UnsafeKeyError, match=f"open to other users.*{mode:04o}.*chmod"):
        Authority.open(state, "cluster.local", NOW)


def test_a_linked_key_is_refused(state: Path, tmp_path: Path) -> None:
    Authority.open(state, "cluster.local", NOW)
    key = key_of(state)
    key.rename(tmp_path / "elsewhere")
    key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeKeyError, match="symbolic link"):
        Authority.open(state, "cluster.local", NOW)


def test_a_damaged_or_foreign_root_is_refused_and_kept(state: Path) -> None:
    Authority.open(state, "cluster.local", NOW)
    with pytest.raises(RootUnusableError, match=r"for spiffe://cluster\.local, but .* other"):
        Authority.open(state, "other", NOW)
    with pytest.raises(RootUnusableError, match="expired"):
        Authority.open(state, "cluster.local", NOW + timedelta(days=4000))
    key_of(state).write_bytes(b"-")
    with pytest.raises(RootUnusableError, match="holds no private key"):
        Authority.open(state, "cluster.local", NOW)
    (state / "ca" / "state.json").write_text("{}")
    with pytest.raises(RootUnusableError, match="damaged"):
        Authority.open(state, "cluster.local", NOW)
    assert key_of(state).read_bytes() == b"-"


@pytest.mark.parametrize("segment", ["", "a/b", "..", "a b", "ü", "a\n"])
def test_a_segment_cannot_change_the_meaning_of_an_id(segment: str) -> None:
    with pytest.raises(NameRefusedError):
        SpiffeId("cluster.local", segment, "x")


@pytest.mark.parametrize(
    "text", ["spiffe://td/ns/a/sa/b/c", "spiffe://td/ns/a/sa/", "http://td/ns/a/sa/b", "spiffe://td/sa/b/ns/a"]
)
def test_other_uris_are_no_workload_ids(text: str) -> None:
    with pytest.raises(NameRefusedError):
        SpiffeId.parse(text)
    assert str(SpiffeId.parse("spiffe://td/ns/a/sa/b")) == "spiffe://td/ns/a/sa/b"
