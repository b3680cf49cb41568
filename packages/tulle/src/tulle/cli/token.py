"""`tulle token`: who may use the admin API from elsewhere, and for what."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import click

from tulle.cli.client import Client
from tulle.cli.objects import api_option

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LIFE = re.compile(r"(\d{1,6})([smhd])")


@click.group()
def token() -> None:
    """Create, list and revoke tokens for the admin API.

    On the control plane's own machine its user needs none. Everybody else sends one (TULLE_TOKEN), which may view, edit
    in certain namespaces, or do everything.

    \b
    Example:
      tulle token create ci --role edit -n shop --expires 30d
    """


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["view", "edit", "admin"]), default="view", show_default=True)
@click.option("-n", "--namespace", "namespaces", multiple=True, metavar="NS", help="For --role edit; may be repeated.")
@click.option("--expires", "life", metavar="LIFE", help="For example 30d, 12h, 90m, 45s (default: never).")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def create(
    name: str, role: str, namespaces: tuple[str, ...], life: str | None, output: str, api: str | None
) -> None:
    """Create a token and print it: it is shown this once, and kept as a hash.

    \b
    Example:
      TULLE_TOKEN=$(tulle token create reader) tulle --help
    """
    if (role == "edit") != bool(namespaces):
        raise click.UsageError("--namespace is what --role edit needs, and no other role has")
    body: dict[str, Any] = {"name": name, "role": role, "namespaces": list(namespaces), "life": _seconds(life)}
    told = Client.find(api).send("POST", ["v1", "tokens"], body)
    print(json.dumps(told, indent=2) if output == "json" else told["token"])


@token.command(name="list")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def list_tokens(output: str, api: str | None) -> None:
    """Show the tokens that are valid, without themselves.

    \b
    Example:
      tulle token list
    """
    told = Client.find(api).send("GET", ["v1", "tokens"])
    if output == "json":
        print(json.dumps(told, indent=2))
        return
    for each in told:
        rights = " ".join([each["role"], *each["namespaces"]])
        print(f"{each['id']}  {each['name']:20}  {rights:24}  {_until(each['expires'])}")


@token.command()
@click.argument("name", metavar="NAME|ID")
@api_option
def revoke(name: str, api: str | None) -> None:
    """Revoke a token at once.

    \b
    Example:
      tulle token revoke ci
    """
    Client.find(api).send("DELETE", ["v1", "tokens", name])
    print(f"{name} is revoked")


def _seconds(life: str | None) -> float | None:
    if life is None:
        return None
    found = _LIFE.fullmatch(life)
    if found is None or int(found[1]) == 0:
        raise click.UsageError(f"--expires is a number with s, m, h or d, not {life!r}")
    return float(int(found[1]) * _UNITS[found[2]])


def _until(expires: float | None) -> str:
    return "never expires" if expires is None else time.strftime("until %Y-%m-%d %H:%M UTC", time.gmtime(expires))
