"""The last accepted configuration, kept so that a restart with a broken file still has what worked before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from tulle.controlplane.durable import write_atomically
from tulle.objects import ObjectKey, RawObject
from tulle.sources.store_db import CorruptStoreError

FILE = "accepted.json"


class _Kept(msgspec.Struct):
    revision: int
    digest: str
    overrides: list[tuple[ObjectKey, str]]
    files: dict[str, list[dict[str, Any]]]


class _Keeping(msgspec.Struct):
    """`_Kept` as it is written; the files are encoded only when they change."""

    revision: int
    digest: str
    overrides: list[tuple[ObjectKey, str]]
    files: msgspec.Raw


@dataclass(slots=True)
class Accepted:
    """``revision`` counts accepted configurations; ``overrides`` has, for each stored object that replaces one of
    a file, the fingerprint of the file's object at that time: a later edit of the file wins again.
    """

    directory: Path
    revision: int = 0
    digest: str = ""
    overrides: dict[ObjectKey, str] = field(default_factory=dict)
    files: dict[str, tuple[RawObject, ...]] = field(default_factory=dict)
    _encoded: msgspec.Raw | None = None

    @classmethod
    def load(cls, directory: Path) -> Accepted:
        """What was kept. Raises `CorruptStoreError` for a file that is damaged or not ours."""
        path = directory / FILE
        if not path.exists():
            return cls(directory)
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptStoreError(path, str(error)) from error
        files = {name: tuple(map(RawObject.decode, objects)) for name, objects in kept.files.items()}
        return cls(directory, kept.revision, kept.digest, dict(kept.overrides), files)

    def accept(
        self,
        objects: Mapping[ObjectKey, RawObject],
        files: Mapping[str, tuple[RawObject, ...]],
        overrides: Mapping[ObjectKey, str],
    ) -> int:
        """Notes an accepted configuration; the revision grows only when its content differs."""
        if self._encoded is None or self.files != files:
            encoded = {name: [obj.encode() for obj in kept] for name, kept in files.items()}
            self._encoded = msgspec.Raw(msgspec.json.encode(encoded))
        digest = fingerprint([[list(key), objects[key].body] for key in sorted(objects)])
        if digest != self.digest:
            self.revision += 1
        self.digest, self.files, self.overrides = digest, dict(files), dict(overrides)
        kept = _Keeping(self.revision, self.digest, list(self.overrides.items()), self._encoded)
        write_atomically(self.directory / FILE, msgspec.json.encode(kept))
        return self.revision


def fingerprint(value: Any) -> str:
    """A hash of JSON-ready data that does not depend on the order of its mappings."""
    return blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=12).hexdigest()
