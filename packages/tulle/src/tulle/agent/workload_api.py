"""The SPIFFE Workload API on a Unix socket: an app's own identity and whom it may trust, renewed as they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tulle.agent.held import Held
from tulle.identity.files import private_directory
from tulle.identity.keys import load_key
from tulle.protos import message
from tulle.protos.spiffe import BUNDLES_RESPONSE, SERVICE, SVID_RESPONSE

HEADER = ("workload.spiffe.io", "true")
"""What every call must carry, so that a redirected HTTP client cannot be made to ask (SPIFFE Workload API §4.1)."""

_NO_JWT = "this mesh issues X.509-SVIDs only, no JWT-SVIDs"


class WorkloadApi:
    """One workload's API. Whoever can open the socket is that workload: it is its owner's alone."""

    def __init__(self) -> None:
        self._held: Held | None = None
        self._changed = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    def set(self, held: Held) -> None:
        """Tells this identity from now on, also to those who were told an older one."""
        self._held = held
        self._changed.set()
        self._changed = asyncio.Event()

    async def start(self, socket: Path) -> None:
        """Listens on a Unix socket, in a directory that only the owner can enter. Raises OSError, `UnsafeKeyError`."""
        private_directory(socket.parent)
        socket.unlink(missing_ok=True)
        server = grpc.aio.server()
        streams = {"FetchX509SVID": self._told(svids), "FetchX509Bundles": self._told(bundles)}
        methods = {name: grpc.unary_stream_rpc_method_handler(method) for name, method in streams.items()}
        methods["FetchJWTBundles"] = grpc.unary_stream_rpc_method_handler(_no_jwt_stream)
        for name in ("FetchJWTSVID", "ValidateJWTSVID"):
            methods[name] = grpc.unary_unary_rpc_method_handler(_no_jwt)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        try:
            server.add_insecure_port(f"unix:{socket}")
        except RuntimeError as error:
            raise OSError(f"cannot listen at {socket}: {error}") from error
        await server.start()
        socket.chmod(0o600)
        self._server = server

    async def stop(self, grace: float) -> None:
        """Stops; streams that are still open after `grace` seconds are cut."""
        if self._server is not None:
            await self._server.stop(grace)

    def _told(self, answer: Callable[[Held], bytes]) -> Callable[[bytes, Any], AsyncIterator[bytes]]:
        """A method that answers at once and whenever the answer changes. There may be no identity yet: then later."""

        async def serve(data: bytes, context: Any) -> AsyncIterator[bytes]:
            await _require_header(context)
            told = None
            while True:
                changed = self._changed
                found = answer(self._held) if self._held is not None else None
                if found is not None and found != told:
                    told = found
                    yield found
                await changed.wait()

        return serve


def svids(held: Held) -> bytes:
    """`X509SVIDResponse`: the identity with its key, what to trust, whom other trust domains' members must prove."""
    chain = x509.load_pem_x509_certificates(held.leaf.encode())
    key = load_key(held.key.encode()).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    response = message(SVID_RESPONSE)()
    response.svids.add(
        spiffe_id=spiffe_id(held), x509_svid=_der(chain), x509_svid_key=key, bundle=_bundle(held.root)
    )
    response.crl.extend(_lists(held.revoked))
    for domain, roots in held.federated.items():
        if domain != trust_domain(held):
            response.federated_bundles[f"spiffe://{domain}"] = _bundle(roots)
    data: bytes = response.SerializeToString(deterministic=True)
    return data


def bundles(held: Held) -> bytes:
    """`X509BundlesResponse`: the roots by trust domain."""
    response = message(BUNDLES_RESPONSE)()
    response.crl.extend(_lists(held.revoked))
    for domain, roots in {**held.federated, trust_domain(held): held.root}.items():
        response.bundles[f"spiffe://{domain}"] = _bundle(roots)
    data: bytes = response.SerializeToString(deterministic=True)
    return data


def spiffe_id(held: Held) -> str:
    """The identity's name."""
    leaf = x509.load_pem_x509_certificate(held.leaf.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    [name] = names.get_values_for_type(x509.UniformResourceIdentifier)
    return str(name)


def trust_domain(held: Held) -> str:
    """The identity's trust domain."""
    return spiffe_id(held).removeprefix("spiffe://").partition("/")[0]


def _der(certificates: list[x509.Certificate]) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.DER) for each in certificates)


def _bundle(roots: str) -> bytes:
    return _der(x509.load_pem_x509_certificates(roots.encode()))


def _lists(text: str) -> list[bytes]:
    end = "-----END X509 CRL-----\n"
    parts = [part + end for part in text.split(end) if part.strip()]
    return [x509.load_pem_x509_crl(part.encode()).public_bytes(serialization.Encoding.DER) for part in parts]


async def _require_header(context: Any) -> None:
    if HEADER not in [(key, value) for key, value in context.invocation_metadata()]:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the header {': '.join(HEADER)} is missing")


async def _no_jwt(data: bytes, context: Any) -> bytes:
    await _require_header(context)
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, _NO_JWT)
    raise AssertionError("gRPC's abort raises")


async def _no_jwt_stream(data: bytes, context: Any) -> AsyncIterator[bytes]:
    yield await _no_jwt(data, context)
