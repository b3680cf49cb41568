"""What tulle-proxy makes of the emitted rules is what the policies say: a hundred thousand calls, and a DENY more."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import policy_random
from policy_strategies import PORTS, policy_meta

from tulle.model.access import AccessAction, AccessPolicy, Guard
from tulle.policy.decide import decide
from tulle.policy.request import Call
from tulle.protos import to_dict
from tulle.supervisor.programs import tulle_proxy
from tulle.xds.filters import rbac

GUARDS = 800
CALLS_EACH = 125
SEED = 20_261
MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
Asked = tuple[str, Call]


def listener(name: str, filters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
        "filter_chains": [{"filters": filters}],
    }


def extension(name: str, full_name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{full_name}", **fields}}


ROUTER = extension("router", "envoy.extensions.filters.http.router.v3.Router")


def written(filters: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Emitted filters as JSON."""
    return [
        each | {"typed_config": to_dict(each["typed_config"])}
        for each in filters
    ]


def listeners(name: str, guard: Guard, port: int) -> Iterator[dict[str, Any]]:
    """One for requests and one for connections."""
    manager = {
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"]}]},
        "http_filters": [*written(rbac.http_filters(guard, port)), ROUTER],
    }
    proxy = extension("tcp", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster="c")
    yield listener(f"{name}-http", [extension("manager", MANAGER, **manager)])
    yield listener(f"{name}-tcp", [*written(rbac.network_filters(guard, port, "tcp")), proxy])


def line(name: str, call: Call) -> str:
    http = call.http and {
        "method": call.http.method,
        "path": call.http.path,
        "authority": call.http.host,
        "headers": dict(call.http.headers),
        "claims": call.http.claims,
    }
    address = f"[{call.destination_ip}]" if ":" in call.destination_ip else call.destination_ip
    return json.dumps(
        {
            "listener": f"{name}-{'tcp' if http is None else 'http'}",
            "principal": call.principal and f"spiffe://{call.principal}",
            "source_ip": call.source_ip,
            "remote_ip": call.remote_ip,
            "destination": f"{address}:{call.port}",
            "server_name": call.server_name,
            "http": http,
        }
    )


def judged(made: list[dict[str, Any]], asked: Iterable[Asked], folder: Path) -> list[tuple[bool, bool]]:
    """What tulle-proxy says: whether each call is allowed, and whether dry runs would allow it."""
    bootstrap = {"static_resources": {"listeners": made}}
    (folder / "bootstrap.json").write_text(json.dumps(bootstrap))
    (folder / "calls").write_text("\n".join(line(*each) for each in asked))
    command = [str(tulle_proxy()), "-c", str(folder / "bootstrap.json"), "--judge", str(folder / "calls")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    words = (each.split(" ") for each in done.stdout.splitlines())
    return [(enforced == "allowed", shadow == "allowed") for enforced, shadow in words]


def test_a_hundred_thousand_calls_are_decided_as_the_policies_read(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    made: list[dict[str, Any]] = []
    asked: list[Asked] = []
    expected = []
    for index in range(GUARDS):
        guard, port = policy_random.guard(rng), rng.choice(PORTS)
        made += listeners(str(index), guard, port)
        for _ in range(CALLS_EACH):
            call = policy_random.call(rng, port)
            decision = decide(guard, call)
            asked.append((str(index), call))
            expected.append((decision.allowed, not decision.dry_run))
    found = judged(made, asked, tmp_path)
    assert len(found) == len(expected) >= 100_000
    wrong = [each for each in zip(asked, expected, found, strict=True) if each[1] != each[2]]
    assert not wrong, wrong[:3]
    share = sum(allowed for allowed, _ in expected) / len(expected)
    assert 0.2 < share < 0.8, "the calls must meet the policies"


def test_a_deny_more_never_allows_more(tmp_path: Path) -> None:
    rng = random.Random(SEED + 1)
    made: list[dict[str, Any]] = []
    asked: list[Asked] = []
    for index in range(200):
        guard, port = policy_random.guard(rng), rng.choice(PORTS)
        more = AccessPolicy(policy_meta(99), AccessAction.DENY, (policy_random.rule(rng),))
        made += listeners(f"{index}-less", guard, port)
        made += listeners(f"{index}-more", replace(guard, access=(*guard.access, more)), port)
        for _ in range(50):
            call = policy_random.call(rng, port)
            asked += [(f"{index}-less", call), (f"{index}-more", call)]
    found = [allowed for allowed, _ in judged(made, asked, tmp_path)]
    pairs = list(zip(found[::2], found[1::2], strict=True))
    assert (True, False) in pairs, "some DENY must deny something"
    assert (False, True) not in pairs
