"""Opens the webhook: with a certificate of the mesh, for clients that can show who they are, or not at all."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tulle.api.authenticate import Entrance
from tulle.api.webhook import build
from tulle.controlplane.api_tokens import ApiTokens
from tulle.controlplane.listening import listen
from tulle.controlplane.web_certificate import WebCertificate
from tulle.controlplane.webhook import Reviewer
from tulle.controlplane.webhook_port import WebhookPort
from tulle.identity.ca import Authority, utc_now


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """Where to listen (port 0: any free one), under which names, and who vouches for clients' certificates (PEM)."""

    address: str
    names: Sequence[str] = ()
    client_ca: Path | None = None


class WebhookRefused(Exception):
    """The webhook cannot be opened as it is asked for; the message says why and what would be right."""


@dataclass(frozen=True, slots=True)
class OpenWebhook:
    """A port to be served, and the URL of its host."""

    port: WebhookPort
    url: str


def open_webhook(
    options: WebhookOptions, authority: Authority, tokens: ApiTokens, reviewer: Reviewer
) -> OpenWebhook:
    """Listens. Raises `WebhookRefused` when nobody could be let in, and OSError for an address that cannot be had."""
    clients = None if options.client_ca is None else _certificates(options.client_ca)
    if clients is None and not tokens.listed():
        raise WebhookRefused(
            "--webhook lets in who has a token or a certificate, and there is neither: give --webhook-client-ca, or"
            " start without --webhook, run 'tulle token create kube-apiserver', and start again"
        )
    listener, host = listen(options.address)
    context = WebCertificate(authority, host, utc_now, options.names, clients).context()
    port = WebhookPort.of(listener, context, build(reviewer, Entrance(tokens)))
    return OpenWebhook(port, f"https://{host}:{listener.getsockname()[1]}")


def _certificates(path: Path) -> str:
    """The file's CA certificates."""
    try:
        text = path.read_text("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (OSError, ValueError) as error:
        message = f"{path}: cannot be read as PEM certificates of a CA: {error}"
        raise WebhookRefused(message) from error
    return text
