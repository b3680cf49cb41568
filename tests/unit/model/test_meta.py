"""Labels, visibility and diagnostics as the rest relies on them."""

from __future__ import annotations

from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.meta import Visibility, label, labels, selects
from tulle.model.source import SourceRef


def test_labels_have_one_order() -> None:
    assert labels({"b": "2", "a": "1"}) == labels([("a", "1"), ("b", "2")])


def test_selects_asks_for_every_pair() -> None:
    candidate = labels({"app": "a", "version": "v1"})
    assert selects(labels({"app": "a"}), candidate)
    assert not selects(labels({"app": "a", "version": "v2"}), candidate)
    assert selects((), candidate)
    assert label(candidate, "version") == "v1"
    assert label(candidate, "zone") is None


def test_visibility() -> None:
    assert Visibility().covers("any")
    own = Visibility(public=False, namespaces=("shop",))
    assert own.covers("shop")
    assert not own.covers("other")


def test_a_diagnostic_names_its_places() -> None:
    found = Diagnostic(
        Severity.WARNING,
        "some-code",
        "is wrong",
        SourceRef("a.yaml", 3, 5),
        "spec.x",
        "do y",
        (SourceRef("b.yaml", 1, 1),),
    )
    assert str(found) == "a.yaml:3:5: warning: spec.x: is wrong (see b.yaml:1:1); do y [some-code]"
