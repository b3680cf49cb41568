"""Starts a control plane: sources, compiler, delivery, CA and admin API, wired here and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tulle.api import wire
from tulle.api.audit import routes as audit_routes
from tulle.api.authenticate import Entrance
from tulle.api.dry_run import routes as dry_run_routes
from tulle.api.federation import routes as federation_routes
from tulle.api.mtls import routes as mtls_routes
from tulle.api.server import build
from tulle.api.tokens import routes as token_routes
from tulle.api.trust import routes as trust_routes
from tulle.controlplane.accepted import FILE as ACCEPTED
from tulle.controlplane.accepted import Accepted
from tulle.controlplane.admin_port import AdminPort
from tulle.controlplane.api_tokens import ApiTokens
from tulle.controlplane.audit import Auditor
from tulle.controlplane.compile import Compiled
from tulle.controlplane.configuration import Changed, Configuration, ConfigurationRefused
from tulle.controlplane.dry_run import DryRunReporter
from tulle.controlplane.durable import write_atomically
from tulle.controlplane.federation import Federation
from tulle.controlplane.mtls import MtlsReporter
from tulle.controlplane.placements import Placements
from tulle.controlplane.service import Addresses, Service
from tulle.controlplane.snapshots import SnapshotBook, workload_of
from tulle.controlplane.trust import TrustKeeper
from tulle.controlplane.version import version
from tulle.controlplane.web_certificate import WebCertificate
from tulle.controlplane.webhook import Reviewer
from tulle.controlplane.webhook_door import OpenWebhook, WebhookOptions, WebhookRefused, open_webhook
from tulle.delivery.contract import Authorize, Node, Peer
from tulle.delivery.server import AdsServer
from tulle.delivery.status import StatusRegistry
from tulle.identity.attestation import Accounts, AttestationServer
from tulle.identity.ca import Authority, utc_now
from tulle.identity.files import guarded_file
from tulle.identity.server import (
    CertificateService,
    ServerCertificate,
    TlsPort,
    admit_by_certificate,
    admit_by_token,
    joins_by_address,
    renewals_by_identity,
)
from tulle.identity.signer import MAX_LEAF_LIFE, IssuerFiles
from tulle.identity.tokens import JoinTokens
from tulle.sources.files import edits
from tulle.sources.store import Store
from tulle.sources.store_db import StoreInUseError, UnwritableError
from tulle.status.recent import Recent

log = logging.getLogger(__name__)

TRUST_DOMAIN = "cluster.local"
GRACE = 2.0
API_FILE = "api.json"
STORE = "store.db"
REFRESH_LOOK = 60.0
"""Seconds between looks at which bundles of other meshes are due again."""

EDGES_LIFE = 5.0
"""Seconds for which metrics and the authority's status go by the same counters of the sidecars."""

TRUST_LOOK = 0.2
"""Seconds between looks at who has taken up what is trusted."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run: the configuration's paths, the state directory, where to listen (port 0: any free one)."""

    paths: Sequence[Path]
    state: Path
    api: str = "127.0.0.1:0"
    xds: str = "127.0.0.1:0"
    join: str = "127.0.0.1:0"
    ready_file: Path | None = None
    issuer: IssuerFiles | None = None
    ignored: Sequence[Path] = ()
    older_store: bool = False
    leaf_life: timedelta = MAX_LEAF_LIFE
    attest: Path | None = None
    """A Unix socket where processes of the users in ``accounts`` get their workloads' join tokens."""
    accounts: Accounts = field(default_factory=dict)
    webhook: WebhookOptions | None = None


class StateInUse(Exception):
    """Another control plane uses the state directory."""


def run(options: Options) -> None:
    """Runs until SIGTERM or SIGINT.

    Raises `ConfigurationRefused`, `StateInUse`, `RootUnusableError`, `UnsafeKeyError`, `StoreError`, `WebhookRefused`,
    or OSError for an address.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    options.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        asyncio.run(_serve(options))
    except StoreInUseError as error:
        raise StateInUse(f"{options.state} is in use by another control plane; say another --state") from error


async def _serve(options: Options) -> None:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    authority = Authority.open(options.state, TRUST_DOMAIN, utc_now(), options.issuer, options.leaf_life)
    for name in (STORE, ACCEPTED):
        guarded_file(options.state / name)
    store = Store.open(options.state / STORE)
    book = SnapshotBook()
    configuration = Configuration(
        options.paths, store, Accepted.load(options.state), Placements.load(store.ledger),
        changed=lambda compiled: book.update(compiled.linked.mesh),
        ignored=[path.absolute() for path in options.ignored], older_store=options.older_store,
    )
    before = configuration.accepted.revision
    configuration.start()
    auditor = Auditor(store.ledger, time.time)
    _note_files(configuration, auditor, before)
    _tell(configuration)
    registry = StatusRegistry()
    tokens = ApiTokens(store.tokens, auditor, time.time)
    webhook = None
    if options.webhook is not None:
        webhook = open_webhook(options.webhook, authority, tokens, Reviewer(configuration))
    admin = AdminPort.listen(options.api)
    service = Service(configuration, book, registry, JoinTokens(store.ledger), _addresses(options, admin), auditor)
    federation = Federation(store.federation, authority, auditor, utc_now)
    trust = TrustKeeper(authority, store.leaves, service, auditor.note, utc_now, federation.roots())
    trust.edges = Recent(service.edges, EDGES_LIFE, time.monotonic).get
    book.begin(trust.revoked)
    federation.changed = _federator(trust, configuration)
    configuration.federate(trust.federated)
    trust.rename(configuration.current.compiled.linked.mesh.settings.trust_domain_aliases)
    ads = AdsServer(book, _authorizer(book, trust), registry)
    trust.cut += [ads.reauthorize, lambda: _bar(configuration, book, trust)]
    _bar(configuration, book, trust)
    ports = await _start_grpc(options, trust, service, ads)
    configuration.changed = _publisher(book, service, trust)
    endless = [_watch(configuration, service), _follow_trust(trust, book), _refresh(federation)]
    if webhook is not None:
        endless.append(webhook.port.serve())
    tasks = [asyncio.create_task(each) for each in endless]
    attestation = AttestationServer(options.accounts, service, service.tokens)
    if options.attest is not None:
        await attestation.start(options.attest)
    own_token = secrets.token_urlsafe(32)
    entrance = Entrance(tokens, own_token, local_owner=admin.loopback)
    more = [
        *trust_routes(trust), *audit_routes(auditor), *token_routes(tokens),
        *federation_routes(federation), *mtls_routes(MtlsReporter(configuration)),
        *dry_run_routes(DryRunReporter(configuration)),
    ]
    application = _application(service, entrance, more)
    web = admin.server(application, WebCertificate(authority, admin.host, utc_now))
    serving = asyncio.create_task(web.serve(sockets=[admin.listener]))
    service.serving = True
    _announce(options, service, own_token, webhook)
    await stop.wait()
    service.stop_serving()
    for task in tasks:
        task.cancel()
    attestation.stop()
    web.should_exit = True
    ads.close()
    trust.service.close()
    ending = (*(port.stop(GRACE) for port in ports), serving, *tasks)
    await asyncio.gather(*ending, return_exceptions=True)
    store.close()


async def _start_grpc(
    options: Options, trust: TrustKeeper, service: Service, ads: AdsServer
) -> tuple[TlsPort, TlsPort]:
    """Starts the mTLS port (xDS and renewals) and the join port; notes the addresses they got."""
    authority = trust.authority
    certificate = ServerCertificate(authority, [options.xds.rpartition(":")[0], options.join.rpartition(":")[0]])
    by_certificate = trust.guard(admit_by_certificate(service))
    renewals = CertificateService(authority, by_certificate, trust.record, renewals_by_identity())
    by_token = trust.guard(admit_by_token(service.tokens, service))
    joins = CertificateService(authority, by_token, trust.record, joins_by_address())
    mutual = TlsPort([ads, trust.service, renewals], certificate.credentials(require_client=True))
    join = TlsPort([joins], certificate.credentials(require_client=False))
    xds_at, join_at = await mutual.start(options.xds), await join.start(options.join)
    at = service.addresses
    service.addresses = Addresses(at.api, xds_at, join_at, at.trust_domain, at.state, at.version)
    return mutual, join


def _authorizer(book: SnapshotBook, trust: TrustKeeper) -> Authorize:
    def authorize(node: Node, peer: Peer) -> str | None:
        ref = workload_of(node.id)
        refusal = trust.refusal(ref.namespace, ref.name) if ref is not None else None
        return refusal or book.authorize(node, peer)

    return authorize


def _bar(configuration: Configuration, book: SnapshotBook, trust: TrustKeeper) -> None:
    """Nobody is sent to the revoked."""
    book.barred = trust.revoked.keys()
    if configuration.placements.barred != trust.revoked.keys():
        configuration.placements.barred = trust.revoked.keys()
        configuration.placements_changed()


async def _follow_trust(trust: TrustKeeper, book: SnapshotBook) -> None:
    """Takes each step of a rotation as soon as nobody lags; goes on with one that an earlier process began. Says which
    proxies refuse the revoked by now, so that those who do not look again give up what they have accepted.
    """
    while True:
        trust.advance()
        if trust.revoked:
            book.has_list(trust.followers_with_all(), trust.revoked)
        await asyncio.sleep(TRUST_LOOK)


async def _refresh(federation: Federation) -> None:
    """Has bundles that have a URL fetched again."""
    while True:
        await asyncio.sleep(REFRESH_LOOK)
        await federation.refresh()


def _federator(trust: TrustKeeper, configuration: Configuration) -> Callable[[dict[str, str]], None]:
    def federate(roots: dict[str, str]) -> None:
        trust.federate(roots)
        configuration.federate(roots)

    return federate


def _publisher(book: SnapshotBook, service: Service, trust: TrustKeeper) -> Changed:
    def publish(compiled: Compiled) -> None:
        trust.rename(compiled.linked.mesh.settings.trust_domain_aliases)
        book.update(compiled.linked.mesh)
        service.announce()

    return publish


async def _watch(configuration: Configuration, service: Service) -> None:
    """Follows the file sources; what is refused is said once, in the log, and stays in the status."""
    if not configuration.paths:
        return
    async for _ in edits(configuration.paths):
        before = configuration.accepted.revision
        try:
            configuration.files_changed()
            _note_files(configuration, service.auditor, before)
        except (UnwritableError, OSError) as error:
            log.error("the change of the files is not taken: %s", error)
            continue
        for found in configuration.refused:
            log.error("refused, the last good configuration stays: %s", found)
        service.announce()


def _note_files(configuration: Configuration, auditor: Auditor, before: int) -> None:
    if configuration.accepted.revision != before:
        auditor.files(list(map(str, configuration.paths)), configuration.accepted.revision)


def _tell(configuration: Configuration) -> None:
    for found in configuration.refused:
        log.error("refused, the last good configuration stays: %s", found)
    for found in configuration.current.diagnostics:
        log.warning("%s", found)


def _addresses(options: Options, admin: AdminPort) -> Addresses:
    return Addresses(admin.url, options.xds, options.join, TRUST_DOMAIN, str(options.state.resolve()), version())


def _application(service: Service, entrance: Entrance, more: Sequence[Route]) -> Starlette:
    application = build(service, entrance, more)
    application.add_exception_handler(UnwritableError, _not_written)
    application.add_exception_handler(OSError, _not_written)
    return application


async def _not_written(request: Request, error: Exception) -> Response:
    """Writing fails, as on a full disk: what is in force stays so, and is still told."""
    log.error("%s %s: %s", request.method, request.url.path, error)
    failure = wire.Failure(code="not-written", message=str(error))
    return Response(msgspec.json.encode(failure), 507, media_type="application/json")


def _announce(options: Options, service: Service, own_token: str, webhook: OpenWebhook | None) -> None:
    at = service.addresses
    content = {"api": at.api, "xds": at.xds, "join": at.join, "pid": os.getpid()}
    if webhook is not None:
        content["webhook"] = webhook.url
    # Whoever can read the state directory may use the API anyway: the CLI takes the token from there.
    write_atomically(options.state / API_FILE, json.dumps({**content, "token": own_token}).encode())
    if options.ready_file is not None:
        write_atomically(options.ready_file, json.dumps(content).encode())
    log.info("ready: admin API %s, xDS %s (mTLS), join %s", at.api, at.xds, at.join)


__all__ = ["ConfigurationRefused", "Options", "StateInUse", "WebhookOptions", "WebhookRefused", "run"]
