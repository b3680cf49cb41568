"""The identity an agent holds: key, chain and when to renew, kept in one private file across restarts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tulle.identity.files import private_directory, read_private, write_private

FILE = "identity.json"


@dataclass(frozen=True, slots=True)
class Held:
    """A key and its certificate in PEM; `root` is the mesh's, or two while roots rotate, the one that signs first.

    `revoked` are revocation lists in PEM; `federated` has the roots of all trust domains, if there are others.
    Times are in seconds since 1970.
    """

    key: str
    leaf: str
    root: str
    expires: float
    renew_at: float
    revoked: str = ""
    federated: dict[str, str] = field(default_factory=dict)


def load(directory: Path, now: float) -> Held | None:
    """What was held before, or None when there is nothing or it has expired.

    Raises `UnsafeKeyError` when others could read it, `ValueError` when the file is damaged.
    """
    private_directory(directory)
    try:
        data = json.loads(read_private(directory / FILE))
        held = Held(**data)
    except FileNotFoundError:
        return None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{directory / FILE} is damaged: delete it and join again") from error
    return held if now < held.expires else None


def save(directory: Path, held: Held) -> None:
    """Replaces what is kept."""
    write_private(directory / FILE, json.dumps(asdict(held)).encode())
