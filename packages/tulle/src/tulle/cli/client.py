"""The CLI's conversation with the control plane; the standard library only, because start-up time counts."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from tulle.cli.failure import FAILED, REFUSED, UNREACHABLE, Failure
from tulle.cli.state import ROOTS_VARIABLE, find_api, find_token

PATIENCE = 30.0
CONTROL_PLANE_NAME = "tulle-control-plane"
"""As in `tulle.identity.names`, which is not imported because start-up time counts."""


class Client:
    """Sends requests to one control plane."""

    def __init__(self, api: str) -> None:
        self.api = api

    @classmethod
    def find(cls, given: str | None) -> Client:
        """The control plane that `--api`, `TULLE_API` or the default state directory name."""
        api = find_api(given)
        if api is None:
            message = "no control plane is known: start one with 'tulle up', or name it with --api or TULLE_API"
            raise Failure(message, UNREACHABLE)
        return cls(api)

    def send(self, method: str, path: Sequence[str], body: Any = None, query: str = "") -> Any:
        """One request; ``path`` segments are quoted. Returns the decoded answer.

        Raises `Failure`: with status 2 and every diagnostic for a refused configuration, 3 when nobody answers.
        """
        url = urlsplit(self.api)
        target = "/" + "/".join(quote(segment, safe="") for segment in path) + query
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        token = find_token(self.api)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection = _connection(url)
            connection.request(method, target, content, headers)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"the control plane at {self.api} does not answer: {error}", UNREACHABLE) from error
        if answer.status >= 400:
            raise _failure(text)
        return json.loads(text) if text else None


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    """A connection to a control plane; with TLS where its URL says so."""
    if url.scheme != "https":
        return http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=PATIENCE)
    import ssl

    roots = os.environ.get(ROOTS_VARIABLE)
    context = ssl.create_default_context(cafile=roots)
    if roots is None:
        return http.client.HTTPSConnection(url.hostname or "", url.port or 443, timeout=PATIENCE, context=context)
    return _MeshConnection(url.hostname or "", url.port or 443, timeout=PATIENCE, context=context)


class _MeshConnection(http.client.HTTPSConnection):
    """To a control plane that the mesh's own roots vouch for, by the one name that it has at every address."""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        context: Any = getattr(self, "_context")  # noqa: B009 (the standard library keeps it there)
        self.sock = context.wrap_socket(self.sock, server_hostname=CONTROL_PLANE_NAME)


def _failure(text: bytes) -> Failure:
    try:
        told = json.loads(text)
        lines = [diagnostic_line(each) for each in told["diagnostics"]]
        return Failure("\n".join([*lines, told["message"]]), REFUSED if lines else FAILED)
    except (ValueError, KeyError, TypeError):
        return Failure(text.decode(errors="replace").strip() or "the control plane refused")


def diagnostic_line(found: dict[str, Any]) -> str:
    """A diagnostic as compilers print it: place, severity, field, message, what would be right, code."""
    text = f"{place(found['source'])}: {found['severity']}: "
    if found.get("field"):
        text += f"{found['field']}: "
    text += found["message"]
    text += "".join(f" (see {place(other)})" for other in found.get("related") or ())
    if found.get("hint"):
        text += f"; {found['hint']}"
    return f"{text} [{found['code']}]"


def place(where: dict[str, Any]) -> str:
    """`file:line:column`, or the file alone."""
    if not where.get("line"):
        return str(where["file"])
    return f"{where['file']}:{where['line']}:{where['column']}"
