"""`tulle apply`, `get` and `delete`: the objects of a running mesh."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import click

from tulle.cli.client import Client, diagnostic_line
from tulle.cli.failure import FAILED, REFUSED, Failure

LOOK = 0.05
"""Seconds between looks at proxies that are waited for."""

SUFFIXES = (".yaml", ".yml", ".json", ".hcl")

api_option = click.option("--api", metavar="URL", help="The control plane (default: TULLE_API, then the local one).")
namespace_option = click.option("-n", "--namespace", metavar="NS", help="The namespace (default: default).")


@click.command()
@click.option("-f", "--filename", "paths", multiple=True, required=True, metavar="PATH", help="File, directory or -.")
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@click.option("--wait", type=float, metavar="SECONDS", help="Stay until every proxy has acknowledged the change.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def apply(paths: tuple[str, ...], dry_run: bool, wait: float | None, output: str, api: str | None) -> None:
    """Create or change objects in a running mesh, all of them or none.

    Refused when anything is wrong; the message names file, line, column and field, and the mesh stays as it was.

    \b
    Example:
      tulle apply -f canary.yaml
      tulle apply -f deny.yaml --wait 30
    """
    documents = [{"file": name, "text": text} for path in paths for name, text in read(path)]
    client = Client.find(api)
    answer = client.send("POST", ["v1", "apply"], {"documents": documents, "dry_run": dry_run})
    _report(answer, output)
    if wait is not None and not dry_run:
        _acknowledged(client, wait)


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@namespace_option
@click.option("-A", "--all-namespaces", is_flag=True, help="Of every namespace.")
@click.option("-o", "--output", type=click.Choice(["table", "yaml", "json"]), default="table")
@api_option
def get(
    kind: str, name: str | None, namespace: str | None, all_namespaces: bool, output: str, api: str | None
) -> None:
    """Show the objects of a kind, or one of them.

    KIND is as kubectl takes it: virtualservice, virtualservices, vs.

    \b
    Examples:
      tulle get vs
      tulle get destinationrule reviews -o yaml
    """
    client = Client.find(api)
    if name is not None:
        found = [client.send("GET", ["v1", "objects", kind, namespace or "default", name])]
    else:
        from urllib.parse import urlencode

        query = "" if all_namespaces else "?" + urlencode({"namespace": namespace or "default"})
        found = client.send("GET", ["v1", "objects", kind], query=query)
    if output == "table":
        _table(found)
        return
    shown: Any = found[0] if name is not None else {"apiVersion": "v1", "kind": "List", "items": found}
    if output == "json":
        print(json.dumps(shown, indent=2))
    else:
        import yaml

        print(yaml.safe_dump(shown, sort_keys=False), end="")


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("-f", "--filename", "paths", multiple=True, metavar="PATH", help="Delete what these files declare.")
@namespace_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def delete(
    kind: str | None, name: str | None, paths: tuple[str, ...], namespace: str | None, output: str, api: str | None
) -> None:
    """Delete an object that was applied, or all that are in a file.

    What a file given to `tulle up` declares is deleted by editing that file.

    \b
    Examples:
      tulle delete vs reviews
      tulle delete -f canary.yaml
    """
    client = Client.find(api)
    if paths:
        from tulle.sources.yaml_reader import read_yaml

        keys = []
        for path in paths:
            for file, text in read(path):
                objects, findings = read_yaml(text, file)
                if findings:
                    raise Failure("\n".join(map(str, findings)), REFUSED)
                keys += [(obj.kind, obj.namespace, obj.name) for obj in objects]
    elif kind is not None and name is not None:
        keys = [(kind, namespace or "default", name)]
    else:
        raise click.UsageError("Say KIND and NAME, or -f PATH.")
    for key in keys:
        _report(client.send("DELETE", ["v1", "objects", *key]), output)


def read(path: str) -> list[tuple[str, str]]:
    """(name, text) of a file, of each configuration file of a directory, or of standard input for `-`."""
    if path == "-":
        return [("<stdin>", sys.stdin.read())]
    try:
        if os.path.isdir(path):  # noqa: PTH112 - importing pathlib costs more than the check
            names = sorted(name for name in os.listdir(path) if name.endswith(SUFFIXES) and name[0] != ".")  # noqa: PTH208
            return [pair for name in names for pair in read(os.path.join(path, name))]  # noqa: PTH118
        with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123
            return [(path, file.read())]
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path}: cannot be read: {error}", REFUSED) from error


def _acknowledged(client: Client, seconds: float) -> None:
    """Returns once every proxy has what it should have. A proxy that is away has not."""
    until = time.monotonic() + seconds
    while True:
        proxies = client.send("GET", ["v1", "proxies"])
        late = [each for each in proxies if not (each["connected"] and each["synced"])]
        behind = [f"{each['namespace']}/{each['name']}" for each in late]
        if not behind:
            return
        if time.monotonic() > until:
            raise Failure(f"in force, but not acknowledged within {seconds:g} s by {', '.join(behind)}", FAILED)
        time.sleep(LOOK)


def _report(answer: dict[str, Any], output: str) -> None:
    if output == "json":
        print(json.dumps(answer, indent=2))
        return
    for found in answer["diagnostics"]:
        print(diagnostic_line(found), file=sys.stderr)
    for each in answer["objects"]:
        print(f"{each['kind'].lower()} {each['namespace']}/{each['name']} {each['result']}")


def _table(found: list[dict[str, Any]]) -> None:
    rows = [("NAMESPACE", "NAME", "KIND", "API VERSION")]
    for each in found:
        meta = each["metadata"]
        rows.append((meta.get("namespace") or "default", meta["name"], each["kind"], each["apiVersion"]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
