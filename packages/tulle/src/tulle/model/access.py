"""Who may do what at a workload, what connections it takes, and whose tokens it believes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from tulle.model.authorizers import Authorizer
from tulle.model.meta import Labels, Meta
from tulle.model.source import SourceRef


class AccessAction(StrEnum):
    """DENY is asked before ALLOW; where some ALLOW policy holds, what none of them matches is refused.
    AUDIT only marks what it matches. CUSTOM is asked first of all: what it matches an authorizer decides about,
    and what that allows still has to pass the others.
    """

    CUSTOM = "custom"

    DENY = "deny"
    ALLOW = "allow"
    AUDIT = "audit"


class ValueKind(StrEnum):
    """How a value is compared. PRESENT asks for any value that is not empty; REGEX is RE2 and matches the whole
    value; TEMPLATE is a path in which `{*}` is one segment and `{**}` any number of them; CIDR is a network.
    """

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    PRESENT = "present"
    REGEX = "regex"
    TEMPLATE = "template"
    CIDR = "cidr"


@dataclass(frozen=True, slots=True)
class ValueMatch:
    kind: ValueKind
    value: str = ""


class Attribute(StrEnum):
    """What a condition asks about. PRINCIPAL is a SPIFFE id without its scheme (`td/ns/NS/sa/SA`); ACCOUNT is
    `NS/SA`; REQUEST_PRINCIPAL is `ISSUER/SUBJECT` of a token; PORT is the application's own port.
    """

    PRINCIPAL = "source.principal"
    NAMESPACE = "source.namespace"
    ACCOUNT = "source.serviceAccount"
    SOURCE_IP = "source.ip"
    REMOTE_IP = "remote.ip"
    REQUEST_PRINCIPAL = "request.auth.principal"
    AUDIENCE = "request.auth.audiences"
    PRESENTER = "request.auth.presenter"
    CLAIM = "request.auth.claims"
    HEADER = "request.headers"
    HOST = "request.host"
    METHOD = "request.method"
    PATH = "request.path"
    PORT = "destination.port"
    DESTINATION_IP = "destination.ip"
    SNI = "connection.sni"

    @property
    def http_only(self) -> bool:
        """Whether only a request has it, and a mere connection has not."""
        return self in _HTTP_ONLY


_HTTP_ONLY = frozenset(
    {
        Attribute.REQUEST_PRINCIPAL,
        Attribute.AUDIENCE,
        Attribute.PRESENTER,
        Attribute.CLAIM,
        Attribute.HEADER,
        Attribute.HOST,
        Attribute.METHOD,
        Attribute.PATH,
    }
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One of `values` must match the attribute, or with `negated` none; what is absent matches nothing.

    `key` is the header's name (lower case), or the path of a claim.
    """

    source: SourceRef
    attribute: Attribute
    values: tuple[ValueMatch, ...]
    negated: bool = False
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clause:
    """Conditions that must all hold; none: always."""

    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class OperationsRef:
    """Operations declared in another object (SMI): all of it, or those of the given names."""

    source: SourceRef
    kind: str
    namespace: str
    name: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Holds when one of `callers`, one of `operations` and all of `when` hold; None asks for nothing, and no
    alternative at all never holds. `refers` adds operations once linked.
    """

    source: SourceRef
    callers: tuple[Clause, ...] | None = None
    operations: tuple[Clause, ...] | None = None
    when: Clause = Clause()
    refers: tuple[OperationsRef, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessTarget:
    """Which workloads of the policy's namespace (in the root namespace: of every one) it is for.

    `labels` select; `account` is a service account (`NS/SA`); `services` are host names as written, of which
    one must lead to the port, and `except_services` those of which none may; `ports` are the application's own, by
    number or name. What is empty does not restrict.
    """

    labels: Labels = ()
    account: str | None = None
    services: tuple[str, ...] = ()
    except_services: tuple[str, ...] = ()
    ports: tuple[int | str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """AuthorizationPolicy, TrafficTarget. A policy without rules matches nothing. `dry_run` only reports.

    A CUSTOM policy names a `provider`; `authorizer` is that one once linked, None where there is none.
    """

    meta: Meta
    action: AccessAction
    rules: tuple[AccessRule, ...] = ()
    target: AccessTarget = AccessTarget()
    dry_run: bool = False
    provider: str | None = None
    authorizer: Authorizer | None = None


@dataclass(frozen=True, slots=True)
class NamedOperations:
    """One entry of an `OperationSet`: alternatives under a name."""

    source: SourceRef
    name: str
    clause: Clause


@dataclass(frozen=True, slots=True)
class OperationSet:
    """Operations that policies refer to (SMI's HTTPRouteGroup and TCPRoute); by itself without effect."""

    meta: Meta
    entries: tuple[NamedOperations, ...] = ()


class PeerMode(StrEnum):
    """STRICT takes mutual TLS only, DISABLE plaintext only, PERMISSIVE both."""

    STRICT = "strict"
    PERMISSIVE = "permissive"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """PeerAuthentication. `mode` None inherits; `ports` are application ports and need a selector."""

    meta: Meta
    mode: PeerMode | None = None
    selector: Labels = ()
    ports: tuple[tuple[int, PeerMode | None], ...] = ()


KEY_FETCH_TIMEOUT = timedelta(seconds=5)
"""How long fetching an issuer's keys may take, as in Istio."""


@dataclass(frozen=True, slots=True)
class TokenHeader:
    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ClaimHeader:
    """The claim goes to the application in this header."""

    header: str
    claim: str


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are believed: keys inline (`jwks`, JSON) or from `jwks_uri`; where tokens are looked for
    (nowhere said: the Authorization header and the parameter access_token).

    `space_delimited` names claims of words between blanks, which policies see as lists.
    `key_host` and `key_port` are the linked service that `jwks_uri` leads to; None: there is none.
    """

    source: SourceRef
    issuer: str
    audiences: tuple[str, ...] = ()
    jwks: str | None = None
    jwks_uri: str | None = None
    headers: tuple[TokenHeader, ...] = ()
    params: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    payload_header: str | None = None
    claim_headers: tuple[ClaimHeader, ...] = ()
    forward: bool = False
    timeout: timedelta = KEY_FETCH_TIMEOUT
    space_delimited: tuple[str, ...] = ()
    key_host: str | None = None
    key_port: int | None = None


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """RequestAuthentication: a token that is there must be valid; a request without is let through."""

    meta: Meta
    issuers: tuple[Issuer, ...] = ()
    target: AccessTarget = AccessTarget()


@dataclass(frozen=True, slots=True)
class Guard:
    """All that guards one application port, decided: link's result. Policies are oldest first."""

    mode: PeerMode = PeerMode.STRICT
    access: tuple[AccessPolicy, ...] = ()
    tokens: tuple[TokenPolicy, ...] = ()

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        """Every issuer that is believed, one entry each as declared."""
        return tuple(dict.fromkeys(issuer for policy in self.tokens for issuer in policy.issuers))


UNGUARDED = Guard()
"""Mutual TLS from anybody in the mesh, and no policy."""
