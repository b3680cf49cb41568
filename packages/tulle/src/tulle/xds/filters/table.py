"""The order of HTTP filters in every connection manager, with the reason for each place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tulle.xds.filters import cors, fault
from tulle.xds.wire import extension

_CORS = extension(cors.NAME, "envoy.extensions.filters.http.cors.v3.Cors")
_FAULT = {
    **extension(fault.NAME, "envoy.extensions.filters.http.fault.v3.HTTPFault"),
    "is_optional": True,  # a data plane without it serves everything but the routes that ask for faults
}
_ROUTER = extension("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router")

OUTBOUND: Sequence[Any] = (
    _CORS,  # first: a preflight is answered before anything can delay or abort it
    _FAULT,  # after CORS, so that an injected abort still carries the headers a browser needs
    _ROUTER,  # last: it ends the chain
)
"""Filters of the caller's side, where routes are chosen."""

INBOUND: Sequence[Any] = (
    _ROUTER,  # last: it ends the chain
)
"""Filters of the called side."""
