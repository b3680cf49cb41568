"""`tulle audit`: what was changed and issued, by whom and from where, and whether the log is whole."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import click

from tulle.cli.client import Client
from tulle.cli.failure import FAILED, Failure
from tulle.cli.objects import api_option


@click.command()
@click.option("--verify", is_flag=True, help="Check the chain of hashes; print the last one.")
@click.option("--known", metavar="HASH", help="A hash noted earlier that must still be in the log.")
@click.option("-n", "--limit", type=click.IntRange(0, 100_000), default=20, show_default=True, help="How many events.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def audit(verify: bool, known: str | None, limit: int, output: str, api: str | None) -> None:
    """Show the audit log, newest first.

    Every entry seals the one before it. Whoever can write the store can seal it anew, so note the last hash elsewhere
    and give it to --known later.

    \b
    Examples:
      tulle audit -n 50
      tulle audit --verify --known 5b1e...
    """
    query = {"limit": str(limit), **({"known": known} if known is not None else {})}
    told = Client.find(api).send("GET", ["v1", "audit"], query=f"?{urlencode(query)}")
    if output == "json":
        print(json.dumps(told, indent=2))
    elif verify:
        if told["fault"] is None:
            print(f"{told['entries']} entries, all whole; the last hash is {told['head'] or '-'}")
    else:
        for each in told["events"]:
            print(_line(each))
    if (verify or known is not None) and told["fault"] is not None:
        raise Failure(f"the audit log was tampered with: {told['fault']}", FAILED)


def _line(event: dict[str, Any]) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event["at"]))
    line = f"{at}  {event['event']:22} {event['subject']}"
    line += f"  {event['detail']}" if event["detail"] else ""
    return line + (f"  from {event['origin']}" if event["origin"] else "")
