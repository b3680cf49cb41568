"""The kinds of clients that configuration is emitted for, and what each can do."""

from __future__ import annotations

from enum import StrEnum


class ClientKind(StrEnum):
    """SIDECAR: tulle-proxy (or any proxy that speaks xDS) beside a workload; ENVOY: stock Envoy there. GRPC: a
    proxyless gRPC client of that workload.

    The kind says what a data plane can do. Who cannot do what a policy asks for is never sent it, which would
    be refused as a whole; it gets something stricter that it can do.
    """

    SIDECAR = "sidecar"
    ENVOY = "envoy"
    GRPC = "grpc"

    @classmethod
    def of(cls, user_agent: str) -> ClientKind:
        """The kind by the name that a client gives itself in its xDS node (`user_agent_name`)."""
        if user_agent.startswith("gRPC"):
            return cls.GRPC
        return cls.ENVOY if user_agent == "envoy" else cls.SIDECAR

    @property
    def holds_rules_of_routes(self) -> bool:
        """Whether access rules go into route tables: Envoy keeps a connection's filters until that has been drained,
        and asks the newest route table for every request.
        """
        return self is ClientKind.ENVOY

    @property
    def cuts_the_revoked(self) -> bool:
        """Whether it ends the connections of who was revoked after the handshake. Envoy does not look again: it is told
        to give up every connection that it has accepted, and looks when they come back.
        """
        return self is not ClientKind.ENVOY

    @property
    def checks_addresses(self) -> bool:
        """Whether it refuses forbidden addresses by itself, whatever resolved to them."""
        return self is ClientKind.SIDECAR
