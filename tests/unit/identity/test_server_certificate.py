"""The control plane's own certificate: renewed for new connections after its half-life."""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from tulle.identity.ca import Authority, utc_now
from tulle.identity.server import ServerCertificate, TlsPort


class Clock:
    """Starts three hours ago, so that what is issued while it advances is valid now for the client too."""

    def __init__(self) -> None:
        self.time = utc_now() - timedelta(hours=3)

    def __call__(self) -> datetime:
        return self.time


async def presented(address: str, authority: Authority) -> x509.Certificate:
    """The certificate that the server shows, verified for its fixed name."""
    context = ssl.create_default_context(cadata=authority.root_pem)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(
        host, int(port), ssl=context, server_hostname="tulle-control-plane"
    )
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der)


async def test_it_is_renewed_after_half_its_life(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority.open(tmp_path / "state", "cluster.local", clock())
    certificate = ServerCertificate(authority, ["127.0.0.1"], clock)
    port = TlsPort([], certificate.credentials(False))
    address = await port.start("127.0.0.1:0")
    try:
        first = await presented(address, authority)
        clock.time += timedelta(hours=1, minutes=59)
        assert await presented(address, authority) == first
        clock.time += timedelta(minutes=2)
        second = await presented(address, authority)
        assert second != first
        assert second.not_valid_after_utc > first.not_valid_after_utc
        assert await presented(address, authority) == second
    finally:
        await port.stop(0)
