"""What each case means in action: its calls, through real Envoy and through tulle-proxy."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from case_harness.compilation import CASES, all_cases
from case_harness.session import run_case

from harness.proxies import DATA_PLANES, DataPlane

NOT_YET = tomllib.loads((CASES / "not_yet.toml").read_text(encoding="utf-8"))


def _runs() -> list[Any]:
    """Every case with calls, on every data plane."""
    runs = []
    for plane in DATA_PLANES:
        reasons = NOT_YET.get(plane.name, {})
        for case in all_cases():
            if (case / "calls.yaml").exists():
                name = f"{case.parent.name}/{case.name}"
                marks = [pytest.mark.xfail(strict=True, reason=reasons[name])] if name in reasons else []
                runs.append(pytest.param(case, plane, id=f"{name}-{plane.name}", marks=marks))
    return runs


@pytest.mark.parametrize(("case", "plane"), _runs())
def test_calls(case: Path, plane: DataPlane, tmp_path: Path, rewrite: bool) -> None:
    if rewrite:
        pytest.skip("goldens only")
    if not plane.available():
        pytest.skip(f"{plane.name} is not built; make build")
    found = run_case(case, plane, tmp_path)
    assert not found, "\n".join(found)


def test_every_exception_is_a_case() -> None:
    names = {f"{case.parent.name}/{case.name}" for case in all_cases()}
    assert {name for reasons in NOT_YET.values() for name in reasons} <= names
