"""What each case means stays as it was reviewed: its model, its xDS and its diagnostics."""

from __future__ import annotations

from pathlib import Path

import pytest
from case_harness.calls import read_calls
from case_harness.compilation import (
    CASES,
    all_cases,
    compile_base,
    compile_beside,
    compile_case,
    reversed_objects,
)
from case_harness.render import diagnostics_text, inbound_text, model_text, xds_text

from tulle.xds.names import OUTBOUND_ROUTES
from tulle.xds.snapshot import ROUTES

OUTPUTS = ("model.out.yaml", "xds.out.yaml", "diagnostics.out.txt")
CALLER = "client"
UNRELATED = """\
apiVersion: v1
kind: Service
metadata: {name: unrelated}
spec: {selector: {app: unrelated}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: unrelated}
spec: {host: unrelated, subsets: [{name: v9, labels: {version: v9}}]}
"""


def _called(case: Path) -> list[str]:
    """The workloads whose inbound side the case's calls come to."""
    calls = read_calls(case / "calls.yaml") if (case / "calls.yaml").exists() else []
    return sorted({call.caller for call in calls if call.listener.startswith("inbound")})


def _outputs(case: Path) -> dict[str, str]:
    compilation = compile_case(case)
    snapshot = compilation.snapshot(CALLER)
    inbound = {
        f"inbound.{name}.out.yaml": inbound_text(compilation.snapshot(name))
        for name in _called(case)
    }
    return inbound | {
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


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"{case.parent.name}/{case.name}")
def test_what_is_unrelated_leaves_everything_as_it_was(case: Path) -> None:
    """Byte for byte, but for the one table of routes that names every service."""
    before = compile_case(case).snapshot(CALLER)
    after = compile_beside(case, UNRELATED).snapshot(CALLER)
    for type_url, resources in before.resources.items():
        for name, resource in resources.items():
            if (type_url, name) != (ROUTES, OUTBOUND_ROUTES):
                assert after.resources[type_url][name].body == resource.body, name
        added = after.resources[type_url].keys() - resources.keys()
        assert all(name.endswith("|unrelated.default.svc.cluster.local") for name in added)


def test_no_orphans(rewrite: bool) -> None:
    known = {case / name for case in all_cases() for name in OUTPUTS}
    known |= {case / f"inbound.{name}.out.yaml" for case in all_cases() for name in _called(case)}
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
