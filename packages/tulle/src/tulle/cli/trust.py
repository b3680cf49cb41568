"""`tulle ca` and `tulle workload`: the mesh's roots and their rotation, and whose identity is revoked."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from tulle.cli.client import Client
from tulle.cli.failure import FAILED, Failure
from tulle.cli.issuer import Issuer, issuer_options
from tulle.cli.objects import api_option

LOOK = 0.3
"""Seconds between looks at a rotation that is waited for."""


@click.group()
def ca() -> None:
    """Show the certificate authority and rotate its root.

    \b
    Examples:
      tulle ca status
      tulle ca rotate --wait
    """


@ca.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def status(output: str, api: str | None) -> None:
    """Show the roots, the rotation and who lags, and who would fail first if nothing were renewed.

    \b
    Example:
      tulle ca status -o json
    """
    told = Client.find(api).send("GET", ["v1", "ca"])
    print(json.dumps(told, indent=2) if output == "json" else "\n".join(_lines(told)))


@ca.command()
@click.option("--wait", is_flag=True, help="Stay until the old root is dropped.")
@click.option("--abort", is_flag=True, help="Turn the rotation under way round.")
@issuer_options
@api_option
def rotate(wait: bool, abort: bool, issuer: Issuer | None, api: str | None) -> None:
    """Replace the root under load: trust both, sign with the new one, drop the old one.

    Each step waits until every workload is ready for it; nothing is dropped while any lags. The new root is made by
    the control plane, or is that of --ca-root. With --wait, a rotation that is under way is waited for.

    \b
    Examples:
      tulle ca rotate --wait
      tulle ca rotate --abort
    """
    client = Client.find(api)
    told = client.send("GET", ["v1", "ca"])
    if abort or not wait or told["phase"] == "stable":
        body: dict[str, Any] = {"abort": abort}
        if issuer is not None:
            body["issuer"] = {"cert": str(issuer.cert), "key": str(issuer.key), "root": str(issuer.root)}
        told = client.send("POST", ["v1", "ca", "rotation"], body)
    elif issuer is not None:
        raise Failure(f"a rotation is under way ({told['phase']}); finish it or abort it first", FAILED)
    if wait:
        _wait(client, told)
    else:
        print("\n".join(_lines(told)))


def _wait(client: Client, told: dict[str, Any]) -> None:
    said = ""
    while told["phase"] != "stable":
        line = f"{told['phase']}: {_waits_for(told)}"
        if line != said:
            print(line, file=sys.stderr, flush=True)
            said = line
        time.sleep(LOOK)
        told = client.send("GET", ["v1", "ca"])
    print(f"the mesh's root is {told['roots'][0]['fingerprint']}")


def _waits_for(told: dict[str, Any]) -> str:
    lagging = sorted({f"{each['namespace']}/{each['name']} {each['reason']}" for each in told["lagging"]})
    return "; ".join(lagging) or told["next_step"]


def _lines(told: dict[str, Any]) -> list[str]:
    lines = [f"rotation: {told['phase']}" + (f"; next: {told['next_step']}" if told["next_step"] else "")]
    for root in told["roots"]:
        until = _date(root["not_after"])
        lines.append(f"root {root['fingerprint'][:16]}  {root['phase']:8}  until {until}  {root['subject']}")
    lines += [f"lagging: {each['namespace']}/{each['name']} {each['reason']}" for each in told["lagging"]]
    lines.append(f"certificates in use: {told['certificates']}")
    first = told["forecast"]
    if first is not None:
        minutes = int(first["seconds"] // 60)
        lines.append(
            f"first to fail without renewal: {first['namespace']}/{first['name']}"
            f" in {minutes // 60} h {minutes % 60} min ({_date(first['expires'])})"
        )
    edge = told["first_edge"]
    if edge is not None:
        source, destination = (f"{edge[f'{end}_namespace']}/{edge[end]}" for end in ("source", "destination"))
        minutes = int(edge["seconds"] // 60)
        lines.append(
            f"first calls to fail: {source} -> {destination}"
            f" in {minutes // 60} h {minutes % 60} min ({_date(edge['expires'])})"
        )
    lines += [f"revoked: {each}" for each in told["revoked"]]
    return lines


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


@click.group()
def workload() -> None:
    """Take a workload's identity away, or give it back.

    \b
    Example:
      tulle workload revoke default/backend-v2
    """


@workload.command()
@click.argument("name", metavar="NS/NAME")
@api_option
def revoke(name: str, api: str | None) -> None:
    """Revoke a workload's identity, everywhere and at once.

    Its certificates are refused, its streams to the control plane and its connections are cut, and it gets no new
    certificate until 'tulle workload unrevoke'.

    \b
    Example:
      tulle workload revoke default/backend-v2
    """
    Client.find(api).send("PUT", ["v1", "workloads", *_split(name), "revocation"])
    print(f"{name} is revoked")


@workload.command()
@click.argument("name", metavar="NS/NAME")
@api_option
def unrevoke(name: str, api: str | None) -> None:
    """Give a revoked workload its identity back.

    \b
    Example:
      tulle workload unrevoke default/backend-v2
    """
    Client.find(api).send("DELETE", ["v1", "workloads", *_split(name), "revocation"])
    print(f"{name} is no longer revoked")


def _split(name: str) -> tuple[str, str]:
    namespace, slash, own = name.partition("/")
    if not (namespace and slash and own) or "/" in own:
        raise click.UsageError(f"{name!r} is not of the form NS/NAME")
    return namespace, own
