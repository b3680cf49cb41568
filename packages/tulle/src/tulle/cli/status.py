"""`tulle status`: the control plane, its proxies, and what was found wrong."""

from __future__ import annotations

import json
from typing import Any

import click

from tulle.cli.client import Client, diagnostic_line
from tulle.cli.objects import api_option


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def status(output: str, api: str | None) -> None:
    """Show the control plane, what each proxy has acknowledged, and the findings in force.

    \b
    Examples:
      tulle status
      tulle status -o json
    """
    told = Client.find(api).send("GET", ["v1", "status"])
    if output == "json":
        print(json.dumps(told, indent=2))
        return
    plane = told["control_plane"]
    print(f"control plane  {plane['api']}, revision {plane['revision']}, {plane['version']}, pid {plane['pid']}")
    print(f"xDS            {plane['xds']} (mTLS), join {plane['join']}, trust domain {plane['trust_domain']}")
    ready = {(each["namespace"], each["name"]): each["placement"] for each in told["workloads"]}
    if told["proxies"]:
        print()
        _table([_row(proxy, ready.get((proxy["namespace"], proxy["name"]))) for proxy in told["proxies"]])
    for proxy in told["proxies"]:
        if proxy["last_nack"] is not None:
            print(f"\n{proxy['name']} refused {proxy['last_nack']['type_url']}: {proxy['last_nack']['message']}")
    if told["diagnostics"]:
        print()
    for found in told["diagnostics"]:
        print(diagnostic_line(found))


def _row(proxy: dict[str, Any], placement: dict[str, Any] | None) -> tuple[str, ...]:
    connected = "connected" if proxy["connected"] else "away"
    synced = "current" if proxy["synced"] else "draining" if proxy["draining"] else "behind"
    ready = "ready" if placement is not None and placement["ready"] else "not ready"
    return (proxy["namespace"], proxy["name"], connected, synced, ready, proxy["version_acknowledged"] or "-")


def _table(rows: list[tuple[str, ...]]) -> None:
    rows = [("NAMESPACE", "WORKLOAD", "PROXY", "CONFIG", "WORKLOAD IS", "VERSION"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
