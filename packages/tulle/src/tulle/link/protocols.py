"""Which protocol a port speaks, selected as Istio does: appProtocol, then the port's name, else detection."""

from __future__ import annotations

from tulle.model.services import Protocol, ServicePort

_NAMES = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "h2c": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    "grpc-web": Protocol.GRPC_WEB,
    "https": Protocol.HTTPS,
    "tls": Protocol.TLS,
    "tcp": Protocol.TCP,
    "mongo": Protocol.TCP,
    "mysql": Protocol.TCP,
    "redis": Protocol.TCP,
    "udp": Protocol.UDP,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}

SERVER_FIRST = frozenset({25, 53, 3306, 27017})
"""Ports whose servers may speak first: detection would stall them, so they are TCP, as in Istio."""


def select_protocol(port: ServicePort) -> Protocol:
    """The protocol of a service port; UNKNOWN leaves it to detection."""
    if port.transport.upper() == "UDP":
        return Protocol.UDP
    if port.app_protocol is not None:
        return _NAMES.get(port.app_protocol.lower(), Protocol.UNKNOWN)
    return named_protocol(port.name) or (Protocol.TCP if port.number in SERVER_FIRST else Protocol.UNKNOWN)


def named_protocol(name: str) -> Protocol | None:
    """The protocol that a port name like `http-metrics` announces, or None."""
    lowered = name.lower()
    if lowered == "grpc-web" or lowered.startswith("grpc-web-"):
        return Protocol.GRPC_WEB
    return _NAMES.get(lowered.split("-", 1)[0])
