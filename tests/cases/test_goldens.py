"""What each case means stays as it was reviewed: its model, its xDS and its diagnostics."""

from __future__ import annotations

from pathlib import Path

import pytest
from case_harness.compilation import CASES, all_cases, compile_base, compile_case, reversed_objects
from case_harness.render import diagnostics_text, model_text, xds_text

OUTPUTS = ("model.out.yaml", "xds.out.yaml", "diagnostics.out.txt")
CALLER = "client"


def _outputs(case: Path) -> dict[str, str]:
    compilation = compile_case(case)
    snapshot = compilation.snapshot(CALLER)
    return {
        "model.out.yaml": model_text(compilation),
        "xds.out.yaml": xds_text(snapshot, compile_base().snapshot(CALLER)),
        "diagnostics.out.txt": diagnostics_text(compilation),
    }


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"{case.parent.name}/{case.name}")
def test_golden(case: Path, rewrite: bool) -> None:
    outputs = _outputs(case)
    if rewrite:
        for name, text in outputs.items():
            (case / name).write_text(text, encoding="utf-8")
    for name, text in outputs.items():
        path = case / name
        assert path.exists(), f"{path} is missing: make golden"
        assert path.read_text(encoding="utf-8") == text, f"{path} changed: make golden, and review"


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"{case.parent.name}/{case.name}")
def test_arrival_order_changes_nothing(case: Path) -> None:
    forth, back = compile_case(case), reversed_objects(case)
    assert forth.snapshot(CALLER).version == back.snapshot(CALLER).version
    assert forth.diagnostics == back.diagnostics


def test_no_orphans(rewrite: bool) -> None:
    known = {case / name for case in all_cases() for name in OUTPUTS}
    orphans = sorted(set(CASES.glob("**/*.out.*")) - known)
    if rewrite:
        for orphan in orphans:
            orphan.unlink()
        orphans = []
    assert not orphans, "outputs of no case: make golden deletes them"


def test_every_case_has_calls_or_is_refused() -> None:
    without = [
        case.name
        for case in all_cases()
        if not (case / "calls.yaml").exists() and ": error: " not in diagnostics_text(compile_case(case))
    ]
    assert not without, "a case without calls.yaml proves nothing but stability"
