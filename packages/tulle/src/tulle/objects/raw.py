"""One configuration object as it was written, before any dialect has looked at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tulle.model.source import SourceRef
from tulle.objects.marks import MarkNode, Marks, Path, decode_node, encode_node

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]

ObjectKey = tuple[str, str, str, str]
"""(API group, kind, namespace, name): what makes an object the same object across versions and edits."""

DEFAULT_NAMESPACE = "default"

CLUSTER_SCOPED = frozenset(
    {
        ("", "Namespace"),
        ("gateway.networking.k8s.io", "GatewayClass"),
        ("install.istio.io", "IstioOperator"),
        ("tulle.dev", "MeshSettings"),
    }
)
"""(API group, kind) of the kinds that have no namespace."""


def group_of(api_version: str) -> str:
    """The API group of an ``apiVersion``: ``apps/v1`` → ``apps``, ``v1`` → ``""``."""
    group, slash, _ = api_version.rpartition("/")
    return group if slash else ""


def namespace_of(api_version: str, kind: str, written: str | None) -> str:
    """The namespace an object is in: as written, ``default`` if left out, empty for cluster-scoped kinds."""
    if (group_of(api_version), kind) in CLUSTER_SCOPED:
        return ""
    return written or DEFAULT_NAMESPACE


class ObjectError(ValueError):
    """A document that is not an object: the path of what is wrong, and a message fit for a person."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class RawObject:
    """An object with its identity, its whole document and the place of each of its values.

    ``body`` is the whole document (apiVersion, kind, metadata, spec, …) and must not be changed.
    ``created`` orders objects by age (smaller is older): microseconds of ``metadata.creationTimestamp`` where
    there is one, else the source's own sequence number.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    body: Mapping[str, Any]
    source: SourceRef
    locate: Marks
    created: int
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> ObjectKey:
        """The object's identity; API versions of one kind are the same object."""
        return (group_of(self.api_version), self.kind, self.namespace, self.name)

    @classmethod
    def from_body(
        cls, body: Mapping[str, Any], source: SourceRef, marks: MarkNode | None, sequence: int
    ) -> RawObject:
        """An object from its document.

        Without ``marks`` (a document that was never text) every value is at ``source``. Raises
        :class:`ObjectError` when apiVersion, kind or metadata.name is missing or not a string.
        """
        api_version = _text(body, "apiVersion")
        kind = _text(body, "kind")
        metadata = body.get("metadata")
        if not isinstance(metadata, Mapping):
            what = "is missing" if metadata is None else f"is {show(metadata)}"
            raise ObjectError(
                ("metadata",), f"'metadata' {what}; it must be a mapping with at least a 'name'"
            )
        name = _text(metadata, "metadata", "name")
        written = metadata.get("namespace")
        if written is not None and not isinstance(written, str):
            path = ("metadata", "namespace")
            raise ObjectError(path, f"'metadata.namespace' must be a string, not {show(written)}")
        created = _created(metadata.get("creationTimestamp"))
        return cls(
            api_version=api_version,
            kind=kind,
            namespace=namespace_of(api_version, kind, written),
            name=name,
            body=body,
            source=source,
            locate=Marks(source.file, marks or MarkNode(source.line, source.column)),
            created=sequence if created is None else created,
            labels=_strings(metadata, "labels"),
            annotations=_strings(metadata, "annotations"),
        )

    def encode(self) -> dict[str, Any]:
        """The object as JSON-ready data that :meth:`decode` restores, positions included."""
        return {
            "body": self.body,
            "file": self.source.file,
            "line": self.source.line,
            "column": self.source.column,
            "marks": encode_node(self.locate.root),
            "created": self.created,
        }

    @classmethod
    def decode(cls, data: Mapping[str, Any]) -> RawObject:
        """The inverse of :meth:`encode`; raises ``KeyError`` or ``ValueError`` for anything else."""
        source = SourceRef(str(data["file"]), int(data["line"]), int(data["column"]))
        return cls.from_body(data["body"], source, decode_node(data["marks"]), int(data["created"]))


def _text(mapping: Mapping[str, Any], *path: str) -> str:
    value = mapping.get(path[-1])
    if value is None:
        raise ObjectError(path, f"'{'.'.join(path)}' is missing")
    if not isinstance(value, str) or not value:
        raise ObjectError(path, f"'{'.'.join(path)}' must be a non-empty string, not {show(value)}")
    return value


def _strings(metadata: Mapping[str, Any], key: str) -> dict[str, str]:
    value = metadata.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ObjectError(
            ("metadata", key), f"'metadata.{key}' must be a mapping of strings, not {show(value)}"
        )
    for name, text in value.items():
        if not isinstance(text, str):
            hint = f'; in quotes it is one: "{text}"' if isinstance(text, int | float) else ""
            raise ObjectError(
                ("metadata", key, name), f"'metadata.{key}.{name}' must be a string, not {show(text)}{hint}"
            )
    return dict(value)


def show(value: Any) -> str:
    """A value for a message, short, in the words of YAML rather than Python's."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    return str(value)[:60]


def _created(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        path = ("metadata", "creationTimestamp")
        raise ObjectError(
            path, f"'metadata.creationTimestamp' is not an RFC 3339 time: {show(value)}"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000)
