"""`tulle federation`: other meshes whose members are known here by their own roots."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from tulle.cli.client import Client
from tulle.cli.objects import api_option


@click.group()
def federation() -> None:
    """Let members of other meshes be known here, each by its own mesh's roots.

    A member of another trust domain is let in when its certificate leads to that domain's roots; what it may do is said
    by policies, with principals such as other.example/ns/shop/sa/front.

    \b
    Example:
      tulle federation bundle > ours.json        # give this to the other mesh
      tulle federation add other.example --bundle theirs.json
    """


@federation.command()
@api_option
def bundle(api: str | None) -> None:
    """Print this mesh's trust bundle, as a SPIFFE bundle document.

    \b
    Example:
      tulle federation bundle
    """
    print(json.dumps(Client.find(api).send("GET", ["v1", "bundle"]), indent=1))


@federation.command()
@click.argument("domain")
@click.option("--bundle", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
              help="Its bundle document, or its roots in PEM.")
@click.option("--url", metavar="URL", help="Or where it serves it, by https; fetched again every hour.")
@api_option
def add(domain: str, file: Path | None, url: str | None, api: str | None) -> None:
    """Federate with the trust domain DOMAIN, or replace its bundle.

    \b
    Example:
      tulle federation add other.example --bundle theirs.json
    """
    if (file is None) == (url is None):
        raise click.UsageError("give either --bundle or --url")
    body = {"bundle": file.read_text(encoding="utf-8")} if file is not None else {"url": url}
    told = Client.find(api).send("PUT", ["v1", "federation", domain], body)
    print(f"federated with {told['domain']}: {len(told['roots'])} root{'s' if len(told['roots']) != 1 else ''}")


@federation.command(name="list")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@api_option
def list_domains(output: str, api: str | None) -> None:
    """Show the trust domains that this mesh is federated with.

    \b
    Example:
      tulle federation list
    """
    told = Client.find(api).send("GET", ["v1", "federation"])
    if output == "json":
        print(json.dumps(told, indent=2))
        return
    for each in told:
        until = time.strftime("%Y-%m-%d", time.gmtime(each["expires"]))
        print(f"{each['domain']:30}  until {until}  {', '.join(root[:16] for root in each['roots'])}  {each['url']}")


@federation.command()
@click.argument("domain")
@api_option
def remove(domain: str, api: str | None) -> None:
    """End the federation with DOMAIN: its members are let in no more.

    \b
    Example:
      tulle federation remove other.example
    """
    Client.find(api).send("DELETE", ["v1", "federation", domain])
    print(f"no longer federated with {domain}")
