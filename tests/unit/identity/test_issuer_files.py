"""An issuer given as files: what is accepted, what is refused and why, and that leaves do not outlive it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from tulle.identity.ca import Authority, Phase, RotationRefusedError
from tulle.identity.files import UnsafeKeyError, write_private
from tulle.identity.keys import key_pem, new_key
from tulle.identity.names import SpiffeId, WorkloadIdentity
from tulle.identity.signer import IssuerFiles, RootUnusableError, key_usage, pem

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
IDENTITY = WorkloadIdentity(SpiffeId("cluster.local", "default", "backend"), "backend-v1")


@dataclass(frozen=True)
class Made:
    """A certificate authority of a test."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def authority(
    name: str, above: Made | None = None, life: timedelta = timedelta(days=30), path_length: int | None = None,
    usage: tuple[str, ...] = ("key_cert_sign", "crl_sign"), ca: bool = True,
) -> Made:
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = above.certificate.subject if above else subject
    start = NOW - timedelta(days=1)
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), start, NOW + life)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(key_usage(*usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Made(builder.sign(above.key if above else key, hashes.SHA256()), key)


def written(directory: Path, issuer: Made, root: Made, between: tuple[Made, ...] = ()) -> IssuerFiles:
    directory.mkdir(exist_ok=True)
    (directory / "ca.pem").write_text("".join(pem(each.certificate) for each in (issuer, *between)))
    (directory / "root.pem").write_text(pem(root.certificate))
    write_private(directory / "ca.key", key_pem(issuer.key))
    return IssuerFiles(directory / "ca.pem", directory / "ca.key", directory / "root.pem")


def test_leaves_of_an_intermediate_lead_to_the_root(tmp_path: Path) -> None:
    root = authority("root")
    policy = authority("policy", root)
    issuer = authority("issuer", policy, path_length=0)
    files = written(tmp_path / "files", issuer, root, (policy,))
    one = Authority.open(tmp_path / "state", "cluster.local", NOW, files)
    issued = one.issue(new_key().public_key(), IDENTITY, timedelta(), NOW)
    assert issued.chain[1:] == (pem(issuer.certificate), pem(policy.certificate), pem(root.certificate))
    assert issued.leaf_pem == "".join(issued.chain[:3])
    assert one.root_pem == pem(root.certificate) == (tmp_path / "state/ca/root.pem").read_text()
    verifier = PolicyBuilder().store(Store([root.certificate])).time(NOW).build_client_verifier()
    chain = [x509.load_pem_x509_certificate(each.encode()) for each in issued.chain]
    assert len(verifier.verify(chain[0], chain[1:3]).chain) == 4
    again = Authority.open(tmp_path / "state", "cluster.local", NOW)
    assert again.trust.signing.certificate == issuer.certificate, "the files are remembered"


def test_a_leaf_does_not_outlive_any_of_its_issuers(tmp_path: Path) -> None:
    root = authority("root", life=timedelta(hours=2))
    issuer = authority("issuer", root, life=timedelta(hours=3))
    one = Authority.open(tmp_path / "state", "cluster.local", NOW, written(tmp_path / "f", issuer, root))
    issued = one.issue(new_key().public_key(), IDENTITY, timedelta(), NOW)
    assert issued.not_after == NOW + timedelta(hours=2)


ROOT = authority("root")
STRICT = authority("strict root", path_length=0)


@pytest.mark.parametrize(
    ("issuer", "root", "reason"),
    [
        (authority("i", ROOT, life=timedelta(hours=-1)), ROOT, "'CN=i' expired on 2026-05-04"),
        (authority("i", ROOT, ca=False), ROOT, "'CN=i' is no certificate authority.*CA:FALSE"),
        (authority("i", ROOT, usage=("crl_sign",)), ROOT, "'CN=i' may not sign certificates.*keyCertSign"),
        (authority("i", ROOT, usage=("key_cert_sign",)), ROOT, "may not sign revocation lists"),
        (authority("i", STRICT), STRICT, "'CN=strict root' allows 0 authorities below it.*there are 1"),
        (authority("i", STRICT), ROOT, "'CN=i' is not signed by .*'CN=root'.*does not lead to the root"),
        (authority("i", ROOT), authority("i", ROOT), "is not signed by"),
        (Made(authority("i", ROOT).certificate, new_key()), ROOT, "key does not belong to .*'CN=i'"),
    ],
    ids=["expired", "no-ca", "no-sign", "no-crl", "path-length", "other-root", "no-root", "key-mismatch"],
)
def test_what_would_not_work_is_refused_at_the_start(tmp_path: Path, issuer: Made, root: Made, reason: str) -> None:
    files = written(tmp_path / "files", issuer, root)
    with pytest.raises(RootUnusableError, match=reason):
        Authority.open(tmp_path / "state", "cluster.local", NOW, files)
    assert not (tmp_path / "state" / "ca").exists(), "a refusal leaves nothing behind"


POLICY = authority("policy", ROOT)
BELOW = authority("issuer", POLICY)


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ((BELOW,), r"ca\.pem: .*'CN=issuer' is not signed by .*append the certificate of 'CN=policy'"),
        ((POLICY, BELOW), "the key belongs to the certificate 'CN=issuer', which must come first, and not"),
        ((BELOW, ROOT, POLICY), None),
        ((BELOW, STRICT, POLICY), "'CN=issuer' is not signed by .*out of order: 'CN=policy' must come right after it"),
        ((BELOW, authority("policy", ROOT)), "has the right name and another key"),
    ],
    ids=["missing", "issuer-not-first", "with-the-root", "out-of-order", "namesake"],
)
def test_a_chain_with_a_gap_or_out_of_order_says_what_would_be_right(
    tmp_path: Path, chain: tuple[Made, ...], reason: str | None
) -> None:
    files = written(tmp_path / "files", Made(chain[0].certificate, BELOW.key), ROOT, chain[1:])
    if reason is None:
        assert Authority.open(tmp_path / "state", "cluster.local", NOW, files).phase is Phase.STABLE
        return
    with pytest.raises(RootUnusableError, match=reason):
        Authority.open(tmp_path / "state", "cluster.local", NOW, files)


def test_missing_damaged_and_open_files_are_named(tmp_path: Path) -> None:
    files = written(tmp_path / "files", authority("i", ROOT), ROOT)
    missing = IssuerFiles(tmp_path / "nowhere.pem", files.key, files.root)
    with pytest.raises(RootUnusableError, match=r"nowhere\.pem cannot be read: No such file"):
        Authority.open(tmp_path / "state", "cluster.local", NOW, missing)
    files.key.chmod(0o644)
    with pytest.raises(UnsafeKeyError, match=r"ca\.key.*open to other users"):
        Authority.open(tmp_path / "state", "cluster.local", NOW, files)
    files.root.write_text("nothing")
    with pytest.raises(RootUnusableError, match=r"root\.pem is damaged"):
        Authority.open(tmp_path / "state", "cluster.local", NOW, files)


def test_a_renewed_intermediate_is_taken_and_another_root_is_not(tmp_path: Path) -> None:
    files = written(tmp_path / "files", authority("one", ROOT), ROOT)
    Authority.open(tmp_path / "state", "cluster.local", NOW, files)
    two = authority("two", ROOT)
    again = Authority.open(tmp_path / "state", "cluster.local", NOW, written(tmp_path / "new", two, ROOT))
    assert again.trust.signing.certificate == two.certificate
    with pytest.raises(RootUnusableError, match="tulle ca rotate"):
        Authority.open(tmp_path / "state", "cluster.local", NOW, written(tmp_path / "other", STRICT, STRICT))


def test_a_rotation_goes_forward_back_and_survives_a_restart_at_each_step(tmp_path: Path) -> None:
    def opened() -> Authority:
        return Authority.open(tmp_path, "cluster.local", NOW)

    first = opened().trust.state.signing
    opened().begin_rotation(None, NOW)
    assert (opened().phase, opened().trust.state.signing) == (Phase.TRUST_BOTH, first)
    with pytest.raises(RotationRefusedError, match="under way"):
        opened().begin_rotation(None, NOW)
    opened().switch(NOW)
    one = opened()
    second = one.trust.state.signing
    assert (one.phase, second != first) == (Phase.SIGN_WITH_NEW, True)
    assert [each.fingerprint for each in one.trust.ordered] == [second, first]
    assert one.root_pem == (tmp_path / "ca/root.pem").read_text()
    assert one.issue(new_key().public_key(), IDENTITY, timedelta(), NOW).root == second
    opened().abort(NOW)
    assert opened().phase is Phase.TRUST_BOTH, "the way back: everybody trusts both, the old one is to sign"
    opened().abort(NOW)
    opened().drop(NOW)
    assert (opened().phase, opened().trust.state.signing, len(opened().trust.signers)) == (Phase.STABLE, second, 1)
    with pytest.raises(RotationRefusedError, match="no rotation"):
        opened().abort(NOW)


def test_a_rotation_can_lead_to_an_issuer_given_as_files(tmp_path: Path) -> None:
    one = Authority.open(tmp_path / "state", "cluster.local", NOW)
    issuer = authority("issuer", ROOT)
    one.begin_rotation(written(tmp_path / "files", issuer, ROOT), NOW)
    one.switch(NOW)
    one.drop(NOW)
    again = Authority.open(tmp_path / "state", "cluster.local", NOW)
    assert (again.root_pem, again.trust.signing.certificate) == (pem(ROOT.certificate), issuer.certificate)
