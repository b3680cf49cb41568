"""The YAML reader: what it reads, what it refuses, and that nothing makes it hang or crash."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.model.source import SourceRef
from tulle.sources.yaml_compose import MAX_DEPTH
from tulle.sources.yaml_reader import MAX_BYTES, read_path, read_paths, read_yaml

HEAD = "apiVersion: v1\nkind: Thing\nmetadata: {name: a}\n"


def _body(text: str) -> dict[str, object]:
    (obj,), diagnostics = read_yaml(HEAD + text, "x.yaml")
    assert diagnostics == ()
    return dict(obj.body)


def _refused(text: str) -> tuple[str, int, int]:
    objects, (diagnostic,) = read_yaml(text, "x.yaml")
    assert objects == ()
    return diagnostic.code, diagnostic.source.line, diagnostic.source.column


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", "on"), ("yes", "yes"), ("No", "No"), ("true", True), ("False", False), ("~", None), ("", None),
        ("0777", 777), ("0o17", 15), ("0x1F", 31), ("1_000", "1_000"), ("12:30:00", "12:30:00"),
        ("2026-01-01", "2026-01-01"), ("1e3", 1000.0), (".5", 0.5), ("-7", -7), ("+7", 7), ("'5'", "5"),
        ('"true"', "true"), ("!!str 5", "5"), ("! 5", "5"), ("!!float 5", 5.0), ("1.2.3", "1.2.3"), ("-", None),
    ],
)  # fmt: skip
def test_scalars_are_yaml_1_2(written: str, value: object) -> None:
    if written == "-":
        assert _body("value:\n -")["value"] == [None]
    else:
        assert _body(f"value: {written}\n")["value"] == value


def test_several_documents_and_lists_in_order() -> None:
    text = (
        "# nothing\n---\n---\napiVersion: v1\nkind: A\nmetadata: {name: one}\n---\napiVersion: v1\nkind: List\n"
        "items:\n- {apiVersion: v1, kind: B, metadata: {name: two}}\n"
        "- {apiVersion: v1, kind: C, metadata: {name: three}}\n...\n"
    )
    objects, diagnostics = read_yaml(text, "x.yaml", first=5)
    assert diagnostics == ()
    assert [(obj.name, obj.created, obj.source.line) for obj in objects] == [
        ("one", 5, 4), ("two", 6, 11), ("three", 7, 12),
    ]  # fmt: skip


def test_json_with_tabs_and_surrogates() -> None:
    text = '{\n\t"apiVersion": "v1", "kind": "A",\n\t"metadata": {"name": "a"}, "x": "\\ud83d\\ude00\\/"\n}'
    (obj,), diagnostics = read_yaml(text, "x.json")
    assert diagnostics == ()
    assert obj.body["x"] == "\U0001f600/"
    assert obj.locate(("metadata", "name")).line == 3


def test_anchors_and_merges() -> None:
    body = _body("base: &b {p: 1, q: 2}\nmore: {<<: *b, q: 3}\nsame: *b\nboth: {<<: [*b, {r: 4, p: 9}]}\n")
    assert body["more"] == {"p": 1, "q": 3}
    assert body["same"] == body["base"]
    assert body["both"] == {"p": 1, "q": 2, "r": 4}


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("a: 1\nb: 2\na: 3\n", ("yaml-duplicate-key", 3, 1)),
        ("a: {b: 1, 'b': 2}\n", ("yaml-duplicate-key", 1, 11)),
        ("a: !!python/object:os.system x\n", ("yaml-tag", 1, 4)),
        ("a: !secret x\n", ("yaml-tag", 1, 4)),
        ("a: !!set {x}\n", ("yaml-tag", 1, 4)),
        ("a: !!int x\n", ("yaml-tag", 1, 4)),
        ("a: *nowhere\n", ("yaml-alias", 1, 4)),
        ("a: &a [*a]\n", ("yaml-alias", 1, 8)),
        ("? [a]\n: b\n", ("yaml-key", 1, 3)),
        ("~: b\n", ("yaml-key", 1, 1)),
        ("a: {<<: 5}\n", ("yaml-merge", 1, 5)),
        ("a: 99999999999999999999\n", ("yaml-integer", 1, 4)),
        ("a: b: c\n", ("yaml-syntax", 1, 5)),
        ("a: [1,\n", ("yaml-syntax", 2, 1)),
        ("just text\n", ("not-an-object", 1, 1)),
        ("apiVersion: v1\nkind: A\nmetadata: {name: 5}\n", ("not-an-object", 3, 18)),
    ],
)
def test_refusals_name_the_place(text: str, refusal: tuple[str, int, int]) -> None:
    assert _refused(text) == refusal


def test_duplicate_keys_name_both_places() -> None:
    _, (diagnostic,) = read_yaml("a: 1\nb: {c: 1,\n c: 2}\n", "x.yaml")
    assert diagnostic.source == SourceRef("x.yaml", 3, 2)
    assert diagnostic.related == (SourceRef("x.yaml", 2, 5),)
    assert "2:5" in diagnostic.message


def test_objects_before_a_syntax_error_are_kept() -> None:
    objects, diagnostics = read_yaml(f"{HEAD}---\na: [\n", "x.yaml")
    assert [obj.name for obj in objects] == ["a"]
    assert [found.code for found in diagnostics] == ["yaml-syntax"]


_BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(_BOMB, id="alias bomb"),
        pytest.param("[" * 100_000, id="deep flow"),
        pytest.param("- " * 100_000, id="deep block"),
        pytest.param("{a: " * 100_000, id="deep mapping"),
        pytest.param("x" * (MAX_BYTES + 1), id="huge"),
        pytest.param("- a\n" * (MAX_BYTES // 4), id="many values"),
        pytest.param("---\n" * (MAX_BYTES // 4), id="many documents"),
        pytest.param("a: 1\n---\n" * (MAX_BYTES // 9), id="many small documents"),
        pytest.param("{" + ",".join(f"k{n}: 1" for n in range(400_000)) + "}", id="many keys"),
        pytest.param("a: " + "9" * 1_000_000, id="long number"),
        pytest.param("a: " + "b" * 5_000_000, id="long value"),
        pytest.param("!" * 5_000_000, id="long tag"),
        pytest.param("? " * 100_000, id="complex keys"),
    ],
)
def test_hostile_texts_are_refused_cheaply(text: str) -> None:
    before = time.process_time()
    _, diagnostics = read_yaml(text, "x.yaml")
    spent = time.process_time() - before
    assert diagnostics
    # Processor time, not wall-clock: a refusal that first built everything would take ten times this.
    assert spent < 5.0


def test_depth_limit_is_where_it_says() -> None:
    fine = "a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert _body(fine + "\n")["a"] is not None
    assert _refused("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))[0] == "yaml-depth"


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(HEAD.replace("name: a", "name: b"))
    (tmp_path / "a.json").write_text('{"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}}')
    (tmp_path / ".hidden.yaml").write_text("nonsense")
    (tmp_path / "notes.txt").write_text("nonsense")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "c.yml").write_text(HEAD)
    objects, diagnostics = read_path(tmp_path)
    assert diagnostics == ()
    assert [(obj.name, obj.created) for obj in objects] == [("a", 0), ("b", 1)]
    again, _ = read_paths([tmp_path / "b.yaml", tmp_path])
    assert [(obj.name, obj.created) for obj in again] == [("b", 0), ("a", 1), ("b", 2)]


def test_unreadable_paths_are_diagnostics(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\n")
    _, (missing, latin) = read_paths([tmp_path / "none.yaml", tmp_path / "latin.yaml"])
    assert (missing.code, latin.code) == ("unreadable", "not-utf-8")


_PIECES = st.sampled_from(
    ["a", ":", " ", "\n", "- ", "{", "}", "[", "]", ",", "&x ", "*x", "!", "!!int ", "? ", "|", ">", "'", '"', "#",
     "---\n", "...\n", "<<: ", "0x1", "1e9", "\t", "%YAML 1.1\n", "\\u", "\x00", "\ud800", "\u2028", "é", "null"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(_PIECES, max_size=60).map("".join)))
def test_any_text_ends_in_objects_or_diagnostics(text: str) -> None:
    objects, diagnostics = read_yaml(text, "x.yaml")
    for diagnostic in diagnostics:
        assert diagnostic.source.file == "x.yaml"
        assert diagnostic.source.line >= 1
        assert str(diagnostic)
    for obj in objects:
        assert obj.locate(("spec", 0, "x")).line >= 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_JSON)
def test_json_reads_as_json(value: object) -> None:
    import json

    body = {"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}, "value": value}
    (obj,), diagnostics = read_yaml(json.dumps(body), "x.json")
    assert diagnostics == ()
    assert obj.body == body
