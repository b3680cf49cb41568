"""The cases' own configurations, damaged: the compiler takes them or refuses them with a place, and never breaks."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from case_harness.compilation import all_cases, compile_text
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.model.diagnostics import Severity
from tulle.xds.client import ClientKind

Path = tuple[str | int, ...]

ODD = (
    None, 0, -1, 1, 2**31, 2**63, 1.5, float("inf"), float("nan"), True, "", "*", "*.", "a.*", "a*b", "/", "//", "0s",
    "-1s", "99999999999h", "1e9s", "%", "{", "}", "a\nb", "\x7f", "é", "spiffe://", "10.0.0.0/33", "::/0", "65536",
    "999999999999999999999999", "(a+)+$", "[", "\\", [], {}, [None], [{}], {"a": None}, "x" * 300,
)  # fmt: skip
"""Values that somebody has once forgotten."""


def _places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _places(inner, (*path, index))


@cache
def _configurations() -> list[list[Any]]:
    texts = [(case / "in.yaml").read_text(encoding="utf-8") for case in all_cases()]
    return [[document for document in yaml.safe_load_all(text) if document] for text in texts]


@cache
def _values() -> list[tuple[str | int, Any]]:
    """Every value of every case, with the field that it stands in."""
    found = [each for documents in _configurations() for document in documents for each in _places(document)]
    return [(path[-1], value) for path, value in found]


def _damage(document: Any, draw: st.DrawFn) -> None:
    """One change somewhere in a document."""
    path, value = draw(st.sampled_from(list(_places(document))))
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    key, (field, other) = path[-1], draw(st.sampled_from(_values()))
    change = draw(st.sampled_from(["odd", "gone", "other", "alike", "added", "twice"]))
    if change == "gone":
        del holder[key]
    elif change == "odd":
        holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    elif change == "other":
        holder[key] = copy.deepcopy(other)
    elif change == "alike":
        alike = [each for name, each in _values() if name == key]
        holder[key] = copy.deepcopy(draw(st.sampled_from(alike or [other])))
    elif isinstance(holder, list):
        holder.append(copy.deepcopy(value if change == "twice" else other))
    elif isinstance(field, str):
        holder[field] = copy.deepcopy(other)


@st.composite
def _damaged(draw: st.DrawFn) -> str:
    documents = copy.deepcopy(draw(st.sampled_from(_configurations())))
    for _ in range(draw(st.integers(1, 3))):
        document = draw(st.sampled_from(documents))
        if any(_places(document)):
            _damage(document, draw)
    return str(yaml.safe_dump_all(documents, allow_unicode=True))


@settings(max_examples=100, deadline=None)
@given(_damaged())
def test_damaged_configuration(text: str) -> None:
    compilation = compile_text(text)
    for diagnostic in compilation.diagnostics:
        assert diagnostic.source.line >= 1
        assert str(diagnostic)
    if any(diagnostic.severity is Severity.ERROR for diagnostic in compilation.diagnostics):
        return
    for client in (ClientKind.SIDECAR, ClientKind.ENVOY):
        compilation.snapshot("client", client)
