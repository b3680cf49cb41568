"""`tulle webhook manifest`: what tells a Kubernetes cluster to have its objects checked by the control plane."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from tulle.cli.client import Client
from tulle.cli.failure import REFUSED, Failure
from tulle.cli.objects import api_option

PATH = "/v1/webhook/validate"
"""As in `tulle.api.webhook`, which is not imported because start-up time counts."""

_SERVICE = re.compile(r"(?P<namespace>[a-z0-9-]{1,63})/(?P<name>[a-z0-9-]{1,63})(:(?P<port>[1-9][0-9]{0,4}))?")


@click.group()
def webhook() -> None:
    """Have a Kubernetes cluster ask before it stores what the mesh cannot use.

    The control plane answers as 'tulle apply --dry-run' would, on the port that 'tulle control-plane --webhook' opens.

    \b
    Example:
      tulle webhook manifest --service tulle-system/tulle-webhook | kubectl apply -f -
    """


@webhook.command()
@click.option("--service", metavar="NS/NAME[:PORT]", help="The webhook's Service in the cluster (port: 443).")
@click.option("--url", metavar="URL", help="Where the webhook is, if it is outside of the cluster.")
@click.option("--ca-file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="PEM",
              help="The mesh's roots (default: those of the running control plane).")
@click.option("--name", default="tulle-webhook", show_default=True, help="Of the configuration.")
@click.option("--timeout", type=click.IntRange(1, 30), default=10, show_default=True, metavar="SECONDS")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml")
@api_option
def manifest(
    service: str | None, url: str | None, ca_file: Path | None, name: str, timeout: int, output: str, api: str | None
) -> None:
    """Print a ValidatingWebhookConfiguration for the kinds that the mesh reads, with the mesh's roots in it.

    Print and apply it again when the roots have rotated. What the API server has to show who it is (a token or a
    certificate) is in docs/security.md.

    \b
    Examples:
      tulle webhook manifest --service tulle-system/tulle-webhook
      tulle webhook manifest --url https://mesh.example:15017 --ca-file root.pem -o json
    """
    if (service is None) == (url is None):
        raise click.UsageError("Say where the webhook is: --service NS/NAME, or --url URL.")
    from tulle.controlplane.webhook_manifest import manifest as made

    client = _service(service) if service is not None else {"url": _url(url or "")}
    whole = made(name, client, _roots(ca_file, api), timeout)
    if output == "json":
        print(json.dumps(whole, indent=2))
        return
    import yaml

    print(yaml.dump(whole, Dumper=_without_aliases(), sort_keys=False), end="")


def _service(written: str) -> dict[str, Any]:
    found = _SERVICE.fullmatch(written)
    port = int(found["port"] or 443) if found else 0
    if found is None or port > 65535:
        raise click.UsageError(f"--service {written!r} is not of the form NS/NAME or NS/NAME:PORT")
    return {"service": {"namespace": found["namespace"], "name": found["name"], "port": port, "path": PATH}}


def _url(written: str) -> str:
    """With the webhook's path where it has none. Kubernetes takes nothing but scheme, host and path."""
    try:
        parts = urlsplit(written)
        whole = parts.scheme == "https" and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole or parts.username is not None or parts.query or parts.fragment:
        raise click.UsageError(f"--url {written!r} is not of the form https://HOST:PORT or https://HOST:PORT/PATH")
    return written if parts.path not in ("", "/") else f"https://{parts.netloc}{PATH}"


def _roots(file: Path | None, api: str | None) -> str:
    """The roots in PEM; of a control plane, those of its bundle (SPIFFE's document has them as `x5c`)."""
    if file is not None:
        try:
            text = file.read_text("ascii")
        except (OSError, ValueError) as error:
            raise Failure(f"{file}: cannot be read: {error}", REFUSED) from error
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise Failure(f"{file}: holds no certificate in PEM", REFUSED)
        return text
    told = Client.find(api).send("GET", ["v1", "bundle"])
    return "".join(_pem(key["x5c"][0]) for key in told["keys"] if key.get("use") == "x509-svid")


def _pem(der: str) -> str:
    lines = "\n".join(textwrap.wrap(der, 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def _without_aliases() -> Any:
    """What three webhooks have in common is written three times: people read it, and change one of them."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return Plain
