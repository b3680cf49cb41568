"""Who may do what with the admin API: roles, what each route needs, and the check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum, StrEnum

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tulle.api.backend import Refused


class Role(StrEnum):
    """``view`` reads, ``edit`` also changes what is in certain namespaces, ``admin`` may do everything."""

    VIEW = "view"
    EDIT = "edit"
    ADMIN = "admin"


class Need(Enum):
    """What a route asks of its caller; ``EDIT`` is about the namespace in its path."""

    NOTHING = 0
    VIEW = 1
    EDIT = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Access:
    """What one caller may do. ``who`` is what the audit log calls it; ``namespaces`` are those of an editor."""

    who: str
    role: Role
    namespaces: tuple[str, ...] = ()

    def edits(self, namespace: str) -> bool:
        """Whether it may change what is in a namespace; the empty one is that of objects outside of any."""
        return self.role is Role.ADMIN or (self.role is Role.EDIT and namespace in self.namespaces)


@dataclass(frozen=True, slots=True)
class Stranger:
    """A caller that is not let in, and why."""

    reason: str
    too_often: bool = False


ACCESS: ContextVar[Access | Stranger | None] = ContextVar("ACCESS", default=None)
"""Of the request that is being served; None outside of one, where only the control plane itself acts."""

Endpoint = Callable[[Request], Awaitable[Response]]


def guarded(path: str, endpoint: Endpoint, need: Need, methods: Sequence[str] = ("GET",)) -> Route:
    """A route that only those reach who have what it needs."""

    async def checked(request: Request) -> Response:
        require(need, request.path_params.get("namespace", ""))
        return await endpoint(request)

    route = Route(path, checked, methods=list(methods))
    if "GET" not in methods:
        route.methods = set(methods)
    return route


def require(need: Need, namespace: str) -> None:
    """Raises `Refused` (401, 403, 429) unless the present caller may do this in that namespace."""
    access = ACCESS.get()
    if need is Need.NOTHING or access is None:
        return
    if isinstance(access, Stranger):
        if access.too_often:
            raise Refused.because(429, "too-often", "too many requests without a valid token: wait")
        raise Refused.because(401, "unauthenticated", access.reason)
    if need is Need.ADMIN and access.role is not Role.ADMIN:
        raise Refused.because(403, "forbidden", f"{access.who} is no admin")
    if need is Need.EDIT and not access.edits(namespace):
        where = f"in namespace {namespace}" if namespace else "outside of namespaces"
        raise Refused.because(403, "forbidden", f"{access.who} may change nothing {where}")


def require_edit(namespaces: Iterable[str]) -> None:
    """Raises `Refused` unless the present caller may change what is in all of these namespaces."""
    for namespace in sorted(set(namespaces)):
        require(Need.EDIT, namespace)


def reads_secrets(namespace: str) -> bool:
    """Whether the present caller may see the values that people keep secrets in (environment variables)."""
    access = ACCESS.get()
    return access is None or (isinstance(access, Access) and access.edits(namespace))
