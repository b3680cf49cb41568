"""What each case means in action: its calls, through real Envoy and through tulle-proxy."""

from __future__ import annotations

from pathlib import Path

import pytest
from case_harness.compilation import all_cases
from case_harness.proxies import DATA_PLANES, DataPlane
from case_harness.session import run_case

WITH_CALLS = [case for case in all_cases() if (case / "calls.yaml").exists()]


@pytest.mark.parametrize("plane", DATA_PLANES, ids=lambda plane: plane.name)
@pytest.mark.parametrize("case", WITH_CALLS, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_calls(case: Path, plane: DataPlane, tmp_path: Path, rewrite: bool) -> None:
    if rewrite:
        pytest.skip("goldens only")
    if not plane.available():
        pytest.skip(f"{plane.name} is not built; make build")
    found = run_case(case, plane, tmp_path)
    assert not found, "\n".join(found)
