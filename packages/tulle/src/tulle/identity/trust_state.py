"""Which issuers the mesh trusts, which one signs, which one is to remain: one file, replaced atomically."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from tulle.identity.files import read_private, write_private
from tulle.identity.signer import RootUnusableError

FILE = "state.json"


class Phase(StrEnum):
    """Where a rotation of the root is."""

    STABLE = "stable"
    TRUST_BOTH = "trust-both"
    SIGN_WITH_NEW = "sign-with-new"


@dataclass(frozen=True, slots=True)
class IssuerPlace:
    """An issuer (by its root's fingerprint) and where it is read from: files' paths, or a folder of `ca/`."""

    root: str
    folder: str | None = None
    certificate: str | None = None
    key: str | None = None
    root_file: str | None = None


@dataclass(frozen=True, slots=True)
class TrustState:
    """One or two issuers. `signing` signs, `target` is the one that remains; both are fingerprints of roots.

    A rotation adds the new issuer as the target, then lets the target sign, then drops the other. Giving up makes
    the other one the target again, at whatever step: the way back is the same road.
    """

    issuers: tuple[IssuerPlace, ...]
    signing: str
    target: str
    since: float

    @property
    def phase(self) -> Phase:
        if len(self.issuers) == 1:
            return Phase.STABLE
        return Phase.TRUST_BOTH if self.signing != self.target else Phase.SIGN_WITH_NEW

    def place(self, root: str) -> IssuerPlace | None:
        """The issuer under that root."""
        return next((each for each in self.issuers if each.root == root), None)

    def begin(self, issuer: IssuerPlace, now: float) -> TrustState:
        return replace(self, issuers=(*self.issuers, issuer), target=issuer.root, since=now)

    def switch(self, now: float) -> TrustState:
        return replace(self, signing=self.target, since=now)

    def drop(self, now: float) -> TrustState:
        kept = tuple(each for each in self.issuers if each.root == self.target)
        return replace(self, issuers=kept, since=now)

    def abort(self, now: float) -> TrustState:
        other = next(each.root for each in self.issuers if each.root != self.target)
        return replace(self, target=other, since=now)


def load(directory: Path) -> TrustState | None:
    """What was saved, None when nothing was. Raises `RootUnusableError` for a damaged file, `UnsafeKeyError`."""
    path = directory / FILE
    try:
        data = json.loads(read_private(path))
        issuers = tuple(IssuerPlace(**each) for each in data.pop("issuers"))
        found = TrustState(issuers, **data)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RootUnusableError(f"{path} is damaged ({error}): restore the state directory from a backup") from error
    if not 1 <= len(issuers) <= 2 or not {found.signing, found.target} <= {each.root for each in issuers}:
        raise RootUnusableError(f"{path} contradicts itself: restore the state directory from a backup")
    return found


def save(directory: Path, state: TrustState) -> None:
    """Replaces what is kept, durably."""
    write_private(directory / FILE, json.dumps(asdict(state), indent=1).encode())
