"""What a case file may say: the upstreams, the configuration under test, the calls; anything else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """No unknown key passes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Upstream(Strict):
    """A recording server; `script`: its behaviours for a call's successive requests (else the header x-do, else ok).

    With `proxied` it expects a PROXY header at the beginning of each connection.
    """

    protocol: Literal["h1", "h2", "tcp"] = "h1"
    script: tuple[str, ...] = ()
    replies: dict[str, str] = {}
    tls: str | None = None
    proxied: bool = False


class ClientTls(Strict):
    """The client's side of TLS: the certificate to show (a name of pki.py), SNI and ALPN."""

    cert: str | None = None
    sni: str | None = "localhost"
    alpn: tuple[str, ...] = ()


class Until(Strict):
    """A request that is made again and again until its answer has this status, which must not be before `least` nor
    after `most` milliseconds have passed since the step `raw` before it was begun. Only the last answer is compared.
    """

    raw: str
    status: int
    least: int = 0
    most: int | None = None


class Step(Strict):
    """One act on the connection; exactly one field is set.

    `raw` has its line ends made CRLF, `bytes` is sent as it stands (latin-1), `pause` is in milliseconds, `read`
    reads so many final responses, `receive` so many raw bytes, `end` half-closes, `reset` aborts.
    """

    raw: str | None = None
    bytes: str | None = None
    pause: int | None = None
    until: Until | None = None
    read: int | None = None
    receive: int | None = None
    end: Literal[True] | None = None
    reset: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> Step:
        if len(self.model_fields_set) != 1:
            raise ValueError("a step does one thing")
        return self


class H2Request(Strict):
    """One HTTP/2 stream. `grpc` is a message sent in its frame; `reset_after` ms the client gives the stream up.

    `protocol` makes a CONNECT an extended one (RFC 8441).
    """

    method: str = "GET"
    path: str = "/"
    authority: str = "test"
    protocol: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    grpc: tuple[str, ...] = ()
    trailers: tuple[tuple[str, str], ...] = ()
    reset_after: int | None = None


class Call(Strict):
    """One script on one connection (h1 and tcp: `steps`; h2: `streams`, all at once), or `repeat` of it.

    `share` gives the expected share of each upstream; each proxy must be within what chance allows of it. Repeated
    calls share some connections, unless they are `apart`. `upstreams` says how many requests are to be waited for at
    the upstreams after the last step (mirrors come late).

    Before a call with `change` or `gone` the control plane has these resources, and those (`<type> <name>`) no more;
    what is then subscribed to, and which types were refused, is compared too. Before a call with
    `files` those are swapped for these.
    """

    name: str
    listener: str = "main"
    protocol: Literal["h1", "h2", "tcp"] = "h1"
    tls: ClientTls | None = None
    steps: tuple[Step, ...] = ()
    streams: tuple[H2Request, ...] = ()
    repeat: Annotated[int, Field(ge=1, le=5000)] = 1
    apart: bool = False
    share: dict[str, float] = {}
    upstreams: int = 0
    change: tuple[dict[str, Any], ...] = ()
    gone: tuple[str, ...] = ()
    files: dict[str, dict[str, Any]] = {}
    ignore: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _sugar(cls, value: Any) -> Any:
        """`get: /path` and `raw: …` are one request and one response."""
        if not isinstance(value, dict):
            return value
        made = dict(value)
        headers = "".join(f"{name}: {text}\n" for name, text in made.pop("headers", {}).items())
        if "get" in made:
            host = "" if "host:" in headers.lower() else "Host: test\n"
            made["raw"] = f"GET {made.pop('get')} HTTP/1.1\n{host}{headers}\n"
        if "raw" in made:
            made["steps"] = [{"raw": made.pop("raw")}, {"read": 1}]
        return made


class Case(Strict):
    """One file: parts of a static Envoy bootstrap, of which config.py fills in what they leave out, and the calls.

    `bootstrap` goes over the made one, key by key (in `node` too); `log` are further fields of the access log.

    With `discovery` there is a control plane that has these resources, each with its `@type`; resources of the types
    in `withheld` are asked for in vain. It speaks the delta protocol, or that of the world's state. `files` are there
    as `${file:<name>}`, each with what it holds.

    In a `pair` two proxies have this configuration: the listener `inbound` of the second is the one that is used, by
    calls and by the first one's clusters.
    """

    about: str
    pair: bool = False
    upstreams: dict[str, Upstream] = {"one": Upstream()}
    routes: list[dict[str, Any]] | None = None
    virtual_hosts: list[dict[str, Any]] | None = None
    hcm: dict[str, Any] = {}
    bootstrap: dict[str, Any] = {}
    log: dict[str, Any] = {}
    discovery: list[dict[str, Any]] | None = None
    withheld: tuple[str, ...] = ()
    variant: Literal["delta", "world"] = "delta"
    files: dict[str, dict[str, Any]] = {}
    clusters: dict[str, dict[str, Any]] = {}
    listeners: dict[str, dict[str, Any]] = {}
    calls: tuple[Call, ...]

    @model_validator(mode="after")
    def _names_once(self) -> Case:
        names = [call.name for call in self.calls]
        if len(set(names)) != len(names):
            raise ValueError("two calls have one name")
        return self


def load(path: Path) -> Case:
    """The case in `path`; raises pydantic.ValidationError naming the field that is wrong."""
    return Case.model_validate(yaml.safe_load(path.read_text()))
