"""Words that Istio's strings are made of: conditions to retry on, gRPC statuses, protocols of ports."""

from __future__ import annotations

from tulle.dialects.findings import did_you_mean
from tulle.model.routes import RetryOn
from tulle.objects import show

GRPC_STATUSES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""gRPC status names in the order of their codes (grpc/doc/statuscodes.md)."""

PROTOCOLS = ("HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS", "HTTP_PROXY")


def retry_conditions(text: str) -> tuple[tuple[RetryOn, ...], tuple[int, ...]]:
    """The conditions and status codes of a ``retryOn``; raises ``ValueError`` for a word that is neither.

    A status code implies ``retriable-status-codes``, as in Istio.
    """
    known = {str(condition): condition for condition in RetryOn}
    conditions: list[RetryOn] = []
    codes: list[int] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        if word in known:
            conditions.append(known[word])
        elif len(word) == 3 and word.isdecimal() and 100 <= int(word) <= 599:
            codes.append(int(word))
        else:
            hint = did_you_mean(word[:60], [*known, "a status code"])
            raise ValueError(f"{show(word)} is not a condition to retry on; {hint}")
    if codes:
        conditions.append(RetryOn.RETRIABLE_STATUS_CODES)
    return tuple(dict.fromkeys(conditions)), tuple(dict.fromkeys(codes))


def grpc_code(name: str) -> int:
    """The number of a gRPC status by its name in any case; raises ``ValueError`` for others."""
    if name.upper() not in GRPC_STATUSES:
        raise ValueError(f"{show(name)} is not a gRPC status; {did_you_mean(name[:60], GRPC_STATUSES)}")
    return GRPC_STATUSES.index(name.upper())


def check_retry_on(text: str) -> str:
    """``text`` when it is a list of conditions; for schemas."""
    retry_conditions(text)
    return text


def check_grpc_status(name: str) -> str:
    """``name`` when it is a gRPC status; for schemas."""
    grpc_code(name)
    return name


def check_protocol(name: str) -> str:
    """``name`` when it is a port's protocol, in any case; for schemas."""
    if name and name.upper() not in PROTOCOLS:
        raise ValueError(f"{show(name)} is not a protocol; {did_you_mean(name[:60], PROTOCOLS)}")
    return name
