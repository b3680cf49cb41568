"""The certificate authority: its root made on first start or its issuer given as files, and the root's rotation."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from tulle.identity import trust_state
from tulle.identity.files import guarded_directory, private_directory, sync_directory, write_private
from tulle.identity.keys import PublicKey, key_pem
from tulle.identity.names import (
    CONTROL_PLANE_ACCOUNT,
    CONTROL_PLANE_NAMESPACE,
    CONTROL_PLANE_SERVER_NAME,
    SpiffeId,
    WorkloadIdentity,
)
from tulle.identity.signer import (
    CLOCK_SKEW,
    MAX_LEAF_LIFE,
    Issued,
    IssuerFiles,
    RootUnusableError,
    Signer,
    check,
    from_files,
    host_name,
    new_root,
    pem,
)
from tulle.identity.trust_state import IssuerPlace, Phase, TrustState

_KEY, _CERTIFICATE = "root.key", "root.pem"
BUNDLE = "root.pem"
"""In `ca/`: the roots to trust, for those who join."""


class RotationRefusedError(Exception):
    """A step of the rotation that cannot be taken now; the message says why."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What is trusted and who signs at one moment; replaced as a whole, so any thread may read it."""

    state: TrustState
    signers: Mapping[str, Signer]

    @property
    def signing(self) -> Signer:
        return self.signers[self.state.signing]

    @property
    def ordered(self) -> list[Signer]:
        """All issuers, the one that signs first."""
        return sorted(self.signers.values(), key=lambda each: each.fingerprint != self.state.signing)


class Authority:
    """The mesh's issuers. Use `open`."""

    def __init__(self, place: Path, trust_domain: str, trust: Trust, leaf_life: timedelta = MAX_LEAF_LIFE) -> None:
        self._place = place
        self.leaf_life = leaf_life
        self.trust_domain = trust_domain
        self.trust = trust
        self.changed: list[Callable[[], None]] = []
        self._publish()

    @classmethod
    def open(
        cls,
        directory: Path,
        trust_domain: str,
        now: datetime,
        files: IssuerFiles | None = None,
        leaf_life: timedelta = MAX_LEAF_LIFE,
    ) -> Authority:
        """The issuers in `directory`/ca; on the first start, that in `files` or a root made there.

        Raises `UnsafeKeyError` when others can read a key or put another in its place, and
        `RootUnusableError` when an issuer cannot be used: it is never replaced silently, since every workload
        would lose its identity.
        """
        guarded_directory(directory)
        place = directory / "ca"
        given = _given(files, trust_domain, now)
        if not place.exists():
            _create(place, given or new_root(trust_domain, now), files, now)
        private_directory(place)
        state = trust_state.load(place) or _upgrade(place, now)
        if state is None:
            raise RootUnusableError(f"the root in {place} is damaged: {trust_state.FILE} is missing. Restore it")
        if given is not None and files is not None:
            state = _adopt(place, state, _files_place(given, files))
        signers = {each.root: _load(place, each) for each in state.issuers}
        for signer in signers.values():
            check(signer, trust_domain, now)
        return cls(place, trust_domain, Trust(state, signers), leaf_life)

    @property
    def root_pem(self) -> str:
        """The roots to trust in PEM, the one that signs first: two while roots rotate."""
        return "".join(each.root_pem for each in self.trust.ordered)

    @property
    def phase(self) -> Phase:
        return self.trust.state.phase

    def issue(
        self, key: PublicKey, identity: WorkloadIdentity, lifetime: timedelta, now: datetime
    ) -> Issued:
        """A leaf for a workload, valid for `lifetime` (if positive) but at most `leaf_life`."""
        subject = [
            x509.NameAttribute(NameOID.COMMON_NAME, identity.workload),
            *([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, identity.app)] if identity.app else []),
            *([x509.NameAttribute(NameOID.DN_QUALIFIER, identity.version)] if identity.version else []),
        ]
        names = [x509.UniformResourceIdentifier(str(identity.spiffe_id))]
        life = min(lifetime, self.leaf_life) if lifetime > timedelta() else self.leaf_life
        return self._sign(key, x509.Name(subject), names, life, now)

    def issue_server(self, key: PublicKey, addresses: Sequence[str], now: datetime) -> Issued:
        """The control plane's own certificate: its SPIFFE id, its fixed server name, these hosts and IPs."""
        spiffe_id = SpiffeId(self.trust_domain, CONTROL_PLANE_NAMESPACE, CONTROL_PLANE_ACCOUNT)
        hosts = dict.fromkeys([CONTROL_PLANE_SERVER_NAME, "localhost", "127.0.0.1", *addresses])
        names = [x509.UniformResourceIdentifier(str(spiffe_id)), *map(host_name, hosts)]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, CONTROL_PLANE_SERVER_NAME)])
        return self._sign(key, subject, names, MAX_LEAF_LIFE, now)

    def begin_rotation(self, files: IssuerFiles | None, now: datetime) -> None:
        """Starts to trust a new root beside the present one: one made here, or that of `files`.

        Raises `RotationRefusedError` while another rotation goes on, `RootUnusableError` for bad files.
        """
        if self.phase is not Phase.STABLE:
            raise RotationRefusedError(f"a rotation is under way ({self.phase}); finish it or abort it first")
        signer = _given(files, self.trust_domain, now) or new_root(self.trust_domain, now)
        if signer.fingerprint in self.trust.signers:
            raise RotationRefusedError("this is the root that the mesh has already")
        place = _files_place(signer, files) if files is not None else _keep(self._place, signer)
        state = self.trust.state.begin(place, now.timestamp())
        self._take(state, {**self.trust.signers, signer.fingerprint: signer})

    def switch(self, now: datetime) -> None:
        """Lets the target sign. The caller knows that everybody trusts it."""
        self._take(self.trust.state.switch(now.timestamp()), self.trust.signers)

    def drop(self, now: datetime) -> None:
        """Forgets all issuers but the target. The caller knows that nobody presents a certificate of theirs."""
        state = self.trust.state.drop(now.timestamp())
        gone = [each for each in self.trust.state.issuers if each not in state.issuers]
        self._take(state, {state.target: self.trust.signers[state.target]})
        for each in gone:
            if each.folder is not None:
                shutil.rmtree(self._place / each.folder)

    def abort(self, now: datetime) -> None:
        """Turns a rotation round. Raises `RotationRefusedError` when there is none."""
        if self.phase is Phase.STABLE:
            raise RotationRefusedError("no rotation is under way")
        self._take(self.trust.state.abort(now.timestamp()), self.trust.signers)

    def _take(self, state: TrustState, signers: Mapping[str, Signer]) -> None:
        # On disk first: what is announced must survive.
        trust_state.save(self._place, state)
        self.trust = Trust(state, signers)
        self._publish()
        for tell in self.changed:
            tell()

    def _publish(self) -> None:
        write_private(self._place / BUNDLE, self.root_pem.encode())

    def _sign(
        self,
        key: PublicKey,
        subject: x509.Name,
        names: Sequence[x509.GeneralName],
        lifetime: timedelta,
        now: datetime,
    ) -> Issued:
        trust = self.trust
        signer = trust.signing
        leaf = signer.sign(key, subject, names, lifetime, now)
        presented = [pem(leaf), *map(pem, signer.intermediates)]
        # Istio's clients take the last one as the root.
        roots = [each.root_pem for each in reversed(trust.ordered)]
        return Issued(
            (*presented, *roots), leaf.not_valid_before_utc, leaf.not_valid_after_utc, len(presented),
            f"{leaf.serial_number:x}", signer.fingerprint,
        )


def _given(files: IssuerFiles | None, trust_domain: str, now: datetime) -> Signer | None:
    if files is None:
        return None
    signer = from_files(_resolved(files))
    try:
        check(signer, trust_domain, now)
    except RootUnusableError as error:
        raise RootUnusableError(f"{files.certificate}: {error}") from error
    return signer


def _resolved(files: IssuerFiles) -> IssuerFiles:
    """Mounted secrets are links, and what they lead to is what must be closed to others."""
    return IssuerFiles(files.certificate, files.key.resolve(), files.root)


def _files_place(signer: Signer, files: IssuerFiles) -> IssuerPlace:
    paths = (str(each.absolute()) for each in (files.certificate, files.key, files.root))
    return IssuerPlace(signer.fingerprint, None, *paths)


def _adopt(place: Path, state: TrustState, given: IssuerPlace) -> TrustState:
    """The state with the issuer given at start in place of that under the same root, as when it was renewed."""
    old = state.place(given.root)
    if old is None:
        raise RootUnusableError(
            "the mesh has another root than the one given, and its workloads trust only their own: start without"
            " --ca-cert, --ca-key and --ca-root and change over with 'tulle ca rotate --ca-cert ... --ca-key ..."
            " --ca-root ...'"
        )
    if old == given:
        return state
    issuers = tuple(given if each == old else each for each in state.issuers)
    changed = TrustState(issuers, state.signing, state.target, state.since)
    trust_state.save(place, changed)
    return changed


def _load(place: Path, issuer: IssuerPlace) -> Signer:
    if issuer.folder is not None:
        folder = place / issuer.folder
        signer = from_files(IssuerFiles(folder / _CERTIFICATE, folder / _KEY, folder / _CERTIFICATE))
    else:
        paths = [Path(each) for each in (issuer.certificate, issuer.key, issuer.root_file) if each is not None]
        signer = from_files(_resolved(IssuerFiles(*paths)))
    if signer.fingerprint != issuer.root:
        raise RootUnusableError(f"the root in {place} is another than it was; restore the one of SHA-256 {issuer.root}")
    return signer


def _create(place: Path, signer: Signer, files: IssuerFiles | None, now: datetime) -> None:
    """Makes a directory that appears under its name only when all in it is complete."""
    temporary = place.with_name(".ca.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    kept = _files_place(signer, files) if files is not None else _keep(temporary, signer)
    trust_state.save(temporary, TrustState((kept,), kept.root, kept.root, now.timestamp()))
    write_private(temporary / BUNDLE, signer.root_pem.encode())
    temporary.rename(place)
    sync_directory(place.parent)


def _upgrade(place: Path, now: datetime) -> TrustState | None:
    """Takes up the one root of a directory from before roots could rotate."""
    if not (place / _KEY).exists():
        return None
    kept = _keep(place, from_files(IssuerFiles(place / _CERTIFICATE, place / _KEY, place / _CERTIFICATE)))
    state = TrustState((kept,), kept.root, kept.root, now.timestamp())
    trust_state.save(place, state)
    (place / _KEY).unlink()
    return state


def _keep(place: Path, signer: Signer) -> IssuerPlace:
    """Writes a root made here into a folder of its own. Until a state names it, it is not in use."""
    folder = place / signer.fingerprint[:16]
    folder.mkdir(mode=0o700)
    write_private(folder / _KEY, key_pem(signer.key))
    write_private(folder / _CERTIFICATE, signer.root_pem.encode())
    sync_directory(place)
    return IssuerPlace(signer.fingerprint, folder.name)


def half_life(issued: Issued) -> datetime:
    """When to renew: half of the certificate's life from now on, its backdated start left out."""
    start = issued.not_before + CLOCK_SKEW
    return start + (issued.not_after - start) / 2


def utc_now() -> datetime:
    """The clock that the callers of this room pass in."""
    return datetime.now(UTC)
