"""The control plane's list of access-log operators is what the data planes have: Envoy and tulle-proxy are asked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tulle.model.log_format import UNWRITTEN, WRITTEN, problems
from tulle.supervisor.programs import envoy, tulle_proxy

_ARGUMENTS = {
    "CEL": "request.method == 'GET'",
    "COALESCE": '{"operators": ["PROTOCOL"]}',
    "COMMON_DURATION": "DS_RX_BEG:US_TX_BEG:ms",
    "METADATA": "CLUSTER:a:b",
    "START_TIME": "%Y",
    "EMIT_TIME": "%s",
}
_DATA = ("CLUSTER_METADATA", "DYNAMIC_METADATA", "ENVIRONMENT", "FILTER_STATE", "QUERY_PARAM", "UPSTREAM_FILTER_STATE",
         "UPSTREAM_METADATA")
_HEADERS = ("REQ", "RESP", "REQUEST_HEADER", "RESPONSE_HEADER", "TRAILER", "RESPONSE_TRAILER", "REQ_WITHOUT_QUERY")


def _operator(name: str) -> str:
    if name in _HEADERS:
        return f"%{name}(X-A?X-B):9%"
    argument = "a" if name in _DATA else _ARGUMENTS.get(name)
    return f"%{name}({argument})%" if argument else f"%{name}%"


FORMATS = {name: _operator(name) for name in sorted(WRITTEN | UNWRITTEN)}
WITHOUT_QUERY = {"@type": "type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"}


@pytest.fixture
def bootstrap(tmp_path: Path) -> Path:
    """A configuration that logs all of them."""
    log = {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": str(tmp_path / "log"),
        "log_format": {"json_format": FORMATS, "formatters": [{"name": "a", "typed_config": WITHOUT_QUERY}]},
    }
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "a",
        "cluster": "a",
        "access_log": [{"name": "a", "typed_config": log}],
    }
    listener = {
        "name": "a",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "a", "typed_config": proxy}]}],
    }
    cluster = {"name": "a", "type": "STATIC", "load_assignment": {"cluster_name": "a"}}
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    return path


def test_envoy_takes_every_operator(bootstrap: Path) -> None:
    program = envoy()
    assert program is not None
    command = [program, "--mode", "validate", "-c", bootstrap, "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_tulle_proxy_warns_of_those_that_it_does_not_write_and_of_no_others(bootstrap: Path) -> None:
    program = tulle_proxy()
    assert program is not None
    process = subprocess.Popen([program, "-c", bootstrap], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        warned: list[str] = []
        for line in process.stderr:
            warned += [name for name in FORMATS if f" {FORMATS[name]} is not known here" in line]
            if len(warned) >= len(UNWRITTEN):
                break
    finally:
        process.kill()
        process.communicate()
    assert sorted(warned) == sorted(UNWRITTEN)


def test_what_is_wrong_with_a_format_is_said() -> None:
    assert [problem for name in WRITTEN for problem in problems(FORMATS[name])] == []
    for name in UNWRITTEN:
        [problem] = problems(f"100%% {FORMATS[name]} %PROTOCOL%")
        assert (problem.operator, problem.fatal) == (FORMATS[name], False)
    table = {
        "%RESPONSE_CODES%": ("there is no operator %RESPONSE_CODES%", "did you mean %RESPONSE_CODE%?"),
        "%REQ%": ("%REQ% needs an argument", "%REQ(…)%"),
        "a 50% b": ("'% b' at character 5 is no operator", None),
        "%PROTOCOL": ("'%PROTOCOL' at character 1 is no operator", None),
    }
    for text, (message, hint) in table.items():
        [found] = problems(text)
        assert found.fatal
        assert found.message == message
        assert hint is None or found.hint == hint
