"""Fault injection of one route, as the configuration of the fault filter."""

from __future__ import annotations

from typing import Any

from tulle.model.routes import Fault
from tulle.xds.wire import duration, percent_of_million, typed

NAME = "envoy.filters.http.fault"


def fault_policy(fault: Fault) -> Any:
    """The route's HTTPFault."""
    fields: dict[str, Any] = {}
    if fault.delay is not None:
        fields["delay"] = {
            "fixed_delay": duration(fault.delay.duration),
            "percentage": percent_of_million(fault.delay.percent.millionths),
        }
    if fault.abort is not None:
        abort: dict[str, Any] = {"percentage": percent_of_million(fault.abort.percent.millionths)}
        if fault.abort.grpc_status is not None:
            abort["grpc_status"] = fault.abort.grpc_status
        else:
            abort["http_status"] = fault.abort.http_status
        fields["abort"] = abort
    return typed("envoy.extensions.filters.http.fault.v3.HTTPFault", **fields)
