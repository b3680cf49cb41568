"""The order of HTTP filters in every connection manager, with the reason for each place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tulle.model.access import Guard, Issuer
from tulle.model.settings import MeshSettings
from tulle.protos.filter_chain import FILTER, PER_ROUTE
from tulle.xds import egress, names
from tulle.xds.client import ClientKind
from tulle.xds.filters import cors, ext_authz, fault, jwt, rbac
from tulle.xds.wire import extension, typed

_CORS = extension(cors.NAME, "envoy.extensions.filters.http.cors.v3.Cors")
_FAULT = {
    **extension(fault.NAME, "envoy.extensions.filters.http.fault.v3.HTTPFault"),
    "is_optional": True,  # a data plane without it serves everything but the routes that ask for faults
}
_CHECKS = extension(names.ACCESS_CHECKS, FILTER)
_ROUTER = extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")

OUTBOUND: Sequence[Any] = (
    _CORS,  # first: a preflight is answered before anything can delay or abort it
    _FAULT,  # after CORS, so that an injected abort still carries the headers a browser needs
    _ROUTER,  # last: it ends the chain
)
"""Filters of the caller's side, where routes are chosen."""


def outbound(settings: MeshSettings, client: ClientKind) -> list[Any]:
    """The same where some requests go to whichever host they name."""
    # right before the router: whatever changes the authority has done so
    return [*OUTBOUND[:-1], *egress.http_filters(settings, client), _ROUTER]


def routing_tokens(issuers: Sequence[Issuer]) -> list[Any]:
    """What comes before all others of the caller's side where routes are chosen by claims: they decide on the rest.
    An issuer whose keys are not to be had vouches for nobody.
    """
    known = [each for each in issuers if jwt.has_keys(each)]
    return [jwt.routing_filter(known)] if known else []


def inbound(guard: Guard, port: int, client: ClientKind) -> list[Any]:
    """Filters of the called side, for one application port."""
    if client.holds_rules_of_routes:
        return [_CHECKS, *rbac.slots(), _ROUTER]
    # DENY before ALLOW, so that no permission overrides a refusal; AUDIT after both: it marks what got through
    return [*_checks(guard, port), *rbac.http_filters(guard, port), _ROUTER]


def of_routes(guard: Guard, port: int) -> dict[str, Any]:
    """What a route table says to the same filters where they are empty: what each does, by its name. All of it is one
    resource, so that no request is judged by half of a change.
    """
    checks = _checks(guard, port)
    said = {names.ACCESS_CHECKS: typed(PER_ROUTE, filter_chain={"filters": checks})} if checks else {}
    return {**said, **rbac.slot_rules(guard, port)}


def _checks(guard: Guard, port: int) -> list[Any]:
    return [
        # first: access rules ask about what tokens say
        *_tokens(guard),
        # before the mesh's own rules, as in Istio: they still hold for what an authorizer allows
        *ext_authz.http_filters(guard, port),
    ]


def _tokens(guard: Guard) -> list[Any]:
    """Where tokens cannot be checked for want of keys, everything is refused."""
    if not guard.tokens:
        return []
    if all(map(jwt.has_keys, guard.issuers)):
        return [jwt.token_filter(guard.issuers)]
    meta = guard.tokens[0].meta
    return [rbac.refuse_everything(names.unchecked_tokens(meta.namespace, meta.name))]
