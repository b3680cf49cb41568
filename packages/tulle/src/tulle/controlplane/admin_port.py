"""Where the admin API listens: on loopback in plain HTTP, beyond it with TLS and tokens only."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from tulle.controlplane.listening import listen
from tulle.controlplane.web_certificate import WebCertificate


@dataclass(frozen=True, slots=True)
class AdminPort:
    """A listening socket. Beyond loopback nobody is let in for where the connection comes from."""

    listener: socket.socket
    host: str
    loopback: bool

    @classmethod
    def listen(cls, address: str) -> AdminPort:
        """Listens at `host:port` (an IPv6 address in brackets; port 0: any free one). Raises OSError."""
        listener, host = listen(address)
        # As it was resolved: a name that looks local may not be.
        return cls(listener, host, ipaddress.ip_address(listener.getsockname()[0]).is_loopback)

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"{'http' if self.loopback else 'https'}://{self.host}:{self.listener.getsockname()[1]}"

    def server(self, application: Starlette, certificates: WebCertificate) -> uvicorn.Server:
        """A web server for an application, to be given the listener."""
        config = uvicorn.Config(
            application, log_level="warning", access_log=False, lifespan="off", loop="none", ws="none",
            timeout_graceful_shutdown=1, server_header=False, proxy_headers=False, h11_max_incomplete_event_size=32_768,
            timeout_keep_alive=30,
        )
        if not self.loopback:
            config.load()
            config.ssl = certificates.context()
        return uvicorn.Server(config)
