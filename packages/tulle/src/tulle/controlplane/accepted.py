"""The last accepted configuration, kept so that a restart with a broken file still has what worked before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from tulle.controlplane.durable import write_draft
from tulle.objects import ObjectKey, RawObject
from tulle.sources.store_db import CorruptStoreError

FILE = "accepted.json"


class _Kept(msgspec.Struct):
    revision: int
    digest: str
    overrides: list[tuple[ObjectKey, str]]
    files: dict[str, list[dict[str, Any]]]
    store_revision: int = 0


class _Keeping(msgspec.Struct):
    """`_Kept` as it is written; the files are encoded only when they change."""

    revision: int
    digest: str
    overrides: list[tuple[ObjectKey, str]]
    files: msgspec.Raw
    store_revision: int


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
    store_revision: int = 0
    """The store's, when this was accepted: a store that is behind it is an older one."""
    _encoded: msgspec.Raw | None = None
    _draft: Path | None = None

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
        return cls(directory, kept.revision, kept.digest, dict(kept.overrides), files, kept.store_revision)

    def prepare(
        self,
        objects: Mapping[ObjectKey, RawObject],
        files: Mapping[str, tuple[RawObject, ...]],
        overrides: Mapping[ObjectKey, str],
        store_revision: int,
    ) -> Accepted:
        """Writes what is to be accepted beside what is; the revision grows only when its content differs.

        Raises OSError when the disk does not take it.
        """
        encoded = self._encoded
        if encoded is None or self.files != files:
            documents = {name: [obj.encode() for obj in kept] for name, kept in files.items()}
            encoded = msgspec.Raw(msgspec.json.encode(documents))
        digest = fingerprint([[list(key), objects[key].body] for key in sorted(objects)])
        revision = self.revision + (digest != self.digest)
        kept = _Keeping(revision, digest, list(overrides.items()), encoded, store_revision)
        draft = write_draft(self.directory / FILE, msgspec.json.encode(kept))
        return Accepted(
            self.directory, revision, digest, dict(overrides), dict(files), store_revision, encoded, draft
        )

    def take(self) -> Accepted:
        """Puts what was prepared in place of what was accepted before; this cannot fail for want of room."""
        if self._draft is not None:
            self._draft.replace(self.directory / FILE)
            self._draft = None
        return self


def fingerprint(value: Any) -> str:
    """A hash of JSON-ready data that does not depend on the order of its mappings."""
    return blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=12).hexdigest()
