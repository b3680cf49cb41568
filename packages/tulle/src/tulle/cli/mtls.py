"""`tulle mtls report`: which calls still come in plaintext, and what stands before STRICT."""

from __future__ import annotations

import json
from typing import Any

import click

from tulle.cli.client import Client, place
from tulle.cli.objects import api_option


@click.group()
def mtls() -> None:
    """Help to move to mutual TLS everywhere.

    \b
    Example:
      tulle mtls report
    """


@mtls.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def report(output: str, api: str | None) -> None:
    """List calls that still come in plaintext, by the sidecars' own counters, and what to do about each workload.

    Counts are of requests, or of TCP connections, since each sidecar started. Callers without an identity are called
    unknown. With Envoy as the data plane, callers are not told apart.

    \b
    Examples:
      tulle mtls report
      tulle mtls report -o json
    """
    told = Client.find(api).send("GET", ["v1", "mtls"])
    print(json.dumps(told, indent=2) if output == "json" else "\n".join(_lines(told)))


def _lines(told: dict[str, Any]) -> list[str]:
    lines = [
        f"plaintext  {each['source_namespace']}/{each['source']} -> {each['namespace']}/{each['destination']}"
        f"  {each['plaintext']:g} of {each['plaintext'] + each['mutual_tls']:g} calls"
        for each in told["edges"]
    ]
    for port in told["ports"]:
        if port["mode"] != "strict":
            said = f", said at {place(port['said'])}" if port["said"] else ""
            name = f"{port['namespace']}/{port['workload']}:{port['port']}"
            lines.append(f"port       {name} is {port['mode'].upper()}{said}")
    for each in told["workloads"]:
        ready = "ready for STRICT" if each["ready"] else "not ready for STRICT"
        lines.append(f"{each['namespace']}/{each['workload']}: {ready}: {each['advice']}")
    lines += [f"{name}: its sidecar did not answer" for name in told["silent"]]
    return lines or ["every port takes mutual TLS only"]
