"""schemathesis against the admin API's own description: whatever it is sent, it answers as it says, and never fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from harness.control_planes import ControlPlane, control_plane
from tulle.api import openapi

EXAMPLES = 12
# These wait for something: a stream without end, and long polls.
_NEVER_ENDS = r"^/v1/watch$"

schema = schemathesis.openapi.from_dict(openapi.describe()).exclude(path_regex=_NEVER_ENDS)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("schema") / "plane") as running:
        yield running


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation_answers_as_described(case: schemathesis.Case, plane: ControlPlane) -> None:
    token = json.loads((Path(plane.state) / "api.json").read_text())["token"]
    case.query = {key: value for key, value in (case.query or {}).items() if key != "wait"}
    answer = case.call(base_url=plane.ready["api"], headers={"authorization": f"Bearer {token}"}, timeout=20)
    case.validate_response(answer, checks=[not_a_server_error, response_schema_conformance])
    assert answer.status_code < 500


def test_it_has_survived_all_of_that(plane: ControlPlane) -> None:
    assert plane.tulle("status").returncode == 0
    assert plane.tulle("audit", "--verify").returncode == 0
    assert "Traceback" not in plane.log
