"""Runs an agent: keeps a workload's identity, gives it to Envoy by SDS, to gRPC in files, to apps by SPIFFE's API."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from tulle.agent.attestation import Attestation
from tulle.agent.ca_client import CertificateClient, CertificateRefusedError
from tulle.agent.certificate_files import CertificateFiles
from tulle.agent.held import Held
from tulle.agent.keeper import IdentityKeeper
from tulle.agent.server import SecretServer
from tulle.agent.workload_api import WorkloadApi
from tulle.identity.files import UnsafeKeyError
from tulle.identity.names import CONTROL_PLANE_SERVER_NAME

STOP_SECONDS = 1.0


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tulle.agent", description=__doc__)
    parser.add_argument("--ca", required=True, metavar="HOST:PORT", help="where to join")
    parser.add_argument("--renew", required=True, metavar="HOST:PORT", help="where to renew")
    parser.add_argument("--trust-anchor", required=True, type=Path, metavar="PEM", help="the mesh's root")
    parser.add_argument("--token-file", type=Path, help="holds the one-time join token")
    parser.add_argument("--attest", type=Path, metavar="SOCKET", help="where the control plane looks who this is")
    parser.add_argument("--workload", metavar="NS/NAME", help="with --attest: which workload this is")
    parser.add_argument("--state", required=True, type=Path, help="private directory for the identity")
    parser.add_argument("--server-name", default=CONTROL_PLANE_SERVER_NAME)
    outputs = parser.add_argument_group("outputs (at least one)")
    outputs.add_argument("--socket", type=Path, help="Unix socket for SDS, in a private directory")
    outputs.add_argument("--workload-api", type=Path, help="Unix socket for the SPIFFE Workload API, as for SDS")
    outputs.add_argument("--files", type=Path, help="private directory for key.pem, cert.pem, root.pem")
    found = parser.parse_args(words)
    if found.socket is None and found.files is None and found.workload_api is None:
        parser.error("one of --socket, --workload-api and --files is needed")
    if (found.token_file is None) == (found.attest is None) or (found.attest is None) != (found.workload is None):
        parser.error("either --token-file, or --attest with --workload, is needed")
    return found


async def _serve(arguments: argparse.Namespace) -> None:
    client = CertificateClient(
        arguments.ca, arguments.renew, arguments.trust_anchor.read_text, arguments.server_name
    )
    attested = Attestation(arguments.attest, arguments.workload) if arguments.attest is not None else None
    keeper = IdentityKeeper(client, arguments.state, attested or arguments.token_file)
    secrets = SecretServer()
    if arguments.files is not None:
        files = CertificateFiles(arguments.files)
        keeper.changed.append(files.write)
        keeper.taken_up.append(files.taken_up)
    if arguments.socket is not None:
        keeper.changed.append(secrets.set)
        keeper.taken_up.append(secrets.taken_up)
        # Before there is an identity, so that Envoy finds the socket and waits.
        await secrets.start(arguments.socket)
    api = WorkloadApi()
    if arguments.workload_api is not None:
        keeper.changed.append(api.set)
        await api.start(arguments.workload_api)
    keeper.changed.append(_report)
    try:
        await keeper.start()
        await keeper.run()
    finally:
        await api.stop(0)
        await secrets.stop(STOP_SECONDS)


def _report(held: Held) -> None:
    logging.getLogger("tulle.agent").info("identity held; it expires at %.0f", held.expires)


async def _until_stopped(arguments: argparse.Namespace) -> None:
    work = asyncio.create_task(_serve(arguments))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        return


def main() -> int:
    """Runs until SIGTERM or SIGINT. Exit status 2: the identity was refused or is not safe."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(_until_stopped(_arguments(sys.argv[1:])))
    except (CertificateRefusedError, UnsafeKeyError, ValueError, OSError) as error:
        print(f"tulle.agent: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
