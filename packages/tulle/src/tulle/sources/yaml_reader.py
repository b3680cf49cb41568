"""Reads configuration objects from YAML, JSON and HCL text, keeping the line and column of every value.

The text is hostile until proven otherwise: size, depth, number of values (aliases counted as often as they
are used), tags and duplicate keys are checked while the parser runs, so a refusal comes before the cost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.source import SourceRef
from tulle.objects import MarkNode, Marks, ObjectError, RawObject, show
from tulle.sources.consul_entry import is_entry, wrapped
from tulle.sources.embedded import opened
from tulle.sources.hcl_compose import compose_hcl
from tulle.sources.yaml_compose import Composed, RefusedError, compose_documents

MAX_BYTES = 8 * 1024 * 1024
"""Largest text read, in bytes (UTF-8)."""

SUFFIXES = frozenset({".yaml", ".yml", ".json", ".hcl"})

Read = tuple[tuple[RawObject, ...], tuple[Diagnostic, ...]]

_SURROGATES = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def read_yaml(text: str, file: str, first: int = 0) -> Read:
    """The objects of a YAML stream or JSON text (HCL by the file's name), and what was wrong with the rest of it.

    ``file`` is the name used in positions; ``first`` the sequence number of the first object (see
    ``RawObject.created``). ``kind: List`` documents are replaced by their items; empty documents are skipped.
    A syntax error ends the stream: objects before it are returned next to its diagnostic.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        return (), (_error(SourceRef(file, 1, 1), "yaml-too-large", _too_large(len(text))),)
    if text.lstrip()[:1] in ("{", "["):
        text = _SURROGATES.sub(_join_surrogates, text)
    objects: list[RawObject] = []
    diagnostics: list[Diagnostic] = []
    try:
        for document in [compose_hcl(text)] if file.endswith(".hcl") else compose_documents(text):
            for written, at in _expand_lists(document):
                body, marks = wrapped(written, at) if is_entry(written) else opened(written, at, text)
                found = _object(body, marks, file, first + len(objects))
                if isinstance(found, RawObject):
                    objects.append(found)
                else:
                    diagnostics.append(found)
    except RefusedError as refused:
        diagnostics.append(_refusal(refused, file))
    return tuple(objects), tuple(diagnostics)


def read_path(path: Path | str, first: int = 0) -> Read:
    """The objects of a file, or of a directory's own files with one of ``SUFFIXES`` by name.

    Subdirectories and hidden files are not read. A path that cannot be read is a diagnostic.
    """
    path = Path(path)
    if not path.is_dir():
        return _read_file(path, first)
    return read_paths(files_in(path), first)


def read_paths(paths: Iterable[Path | str], first: int = 0) -> Read:
    """The objects of several files and directories, numbered through in the order given."""
    objects: list[RawObject] = []
    diagnostics: list[Diagnostic] = []
    for path in paths:
        found, wrong = read_path(path, first + len(objects))
        objects.extend(found)
        diagnostics.extend(wrong)
    return tuple(objects), tuple(diagnostics)


def files_in(directory: Path) -> tuple[Path, ...]:
    """The configuration files directly inside ``directory``, by name."""
    return tuple(
        entry
        for entry in sorted(directory.iterdir())
        if entry.suffix in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    )


def _read_file(path: Path, first: int) -> Read:
    at = SourceRef(str(path), 1, 1)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            return (), (_error(at, "yaml-too-large", _too_large(size)),)
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        return (), (_error(at, "unreadable", f"cannot read {path}: {error.strerror}"),)
    except UnicodeDecodeError as error:
        return (), (_error(at, "not-utf-8", f"byte {error.start} is not valid UTF-8"),)
    return read_yaml(text, str(path), first)


def _expand_lists(document: Composed) -> Iterator[tuple[Any, MarkNode]]:
    body, marks = document
    if isinstance(body, Mapping) and isinstance(body.get("items"), list) and marks.fields is not None:
        kind = body.get("kind")
        if isinstance(kind, str) and kind.endswith("List"):
            nodes = marks.fields["items"][1].items or ()
            yield from zip(body["items"], nodes, strict=True)
            return
    if body is not None:
        yield body, marks


def _object(body: Any, marks: MarkNode, file: str, sequence: int) -> RawObject | Diagnostic:
    at = SourceRef(file, marks.line, marks.column)
    if not isinstance(body, Mapping):
        message = f"a document must be a mapping with apiVersion, kind and metadata, not {show(body)}"
        return _error(at, "not-an-object", message)
    try:
        return RawObject.from_body(body, at, marks, sequence)
    except ObjectError as error:
        place = Marks(file, marks)(error.path)
        return _error(place, "not-an-object", str(error), field=".".join(map(str, error.path)))


def _refusal(refused: RefusedError, file: str) -> Diagnostic:
    related = tuple(SourceRef(file, line, column) for line, column in refused.related)
    at = SourceRef(file, refused.line, refused.column)
    return Diagnostic(Severity.ERROR, refused.code, refused.message, at, related=related)


def _error(at: SourceRef, code: str, message: str, field: str | None = None) -> Diagnostic:
    return Diagnostic(Severity.ERROR, code, message, at, field=field)


def _too_large(size: int) -> str:
    return f"the text has {size:,} bytes; at most {MAX_BYTES:,} are read. Split it into several files"


def _join_surrogates(match: re.Match[str]) -> str:
    """JSON writes characters beyond the basic plane as two escapes; YAML knows only the character itself."""
    high, low = int(match[1], 16), int(match[2], 16)
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"
