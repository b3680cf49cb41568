"""Federation with other meshes: their bundles are checked, kept, pushed to every proxy, and fetched again by URL."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import httpx

from tulle.api.backend import Refused
from tulle.api.federation import FederatedView, FederationRequest
from tulle.controlplane.audit import Auditor
from tulle.identity.bundle_document import (
    MAX_DOCUMENT,
    REFRESH_HINT,
    BundleRefusedError,
    check_domain,
    described,
    read,
    write,
)
from tulle.identity.ca import Authority
from tulle.sources.store_federation import Federated, FederationLedger

log = logging.getLogger(__name__)

PATIENCE = 10.0


class FetchFailed(Exception):
    """A bundle's URL gave none."""


async def fetch(url: str) -> str:
    """The document at an https URL, whose server's certificate is checked. Raises `FetchFailed`."""
    try:
        async with (
            httpx.AsyncClient(timeout=PATIENCE, follow_redirects=False, trust_env=False) as http,
            http.stream("GET", url) as answer,
        ):
            if answer.status_code != 200:
                raise FetchFailed(f"{url} answers {answer.status_code}")
            content = b""
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_DOCUMENT:
                    raise FetchFailed(f"{url} gives more than {MAX_DOCUMENT:,} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchFailed(f"{url}: {error or type(error).__name__}") from error
    return content.decode(errors="replace")


@dataclass(slots=True)
class Federation:
    """Implements `FederationBackend`. `changed` is called with the roots in PEM by trust domain."""

    ledger: FederationLedger
    authority: Authority
    auditor: Auditor
    clock: Callable[[], datetime]
    changed: Callable[[dict[str, str]], None] = lambda roots: None
    fetch: Callable[[str], Awaitable[str]] = fetch

    def roots(self) -> dict[str, str]:
        """The roots in PEM by trust domain."""
        return {each.domain: each.roots for each in self.ledger.all()}

    def bundle(self) -> str:
        """The mesh's own bundle document; its sequence grows with every step of a rotation."""
        return write(self.authority.root_pem, int(self.authority.trust.state.since))

    def listed(self) -> list[FederatedView]:
        """What is federated, by trust domain."""
        return [_view(each) for each in self.ledger.all()]

    async def add(self, domain: str, request: FederationRequest) -> FederatedView:
        """Takes a bundle as given, or fetches it."""
        if bool(request.bundle) == bool(request.url):
            raise Refused.because(400, "malformed", "give either a bundle or a url")
        if request.url and not request.url.startswith("https://"):
            raise Refused.because(400, "malformed", "url: must begin with https://")
        try:
            check_domain(domain)
            if domain == self.authority.trust_domain:
                raise BundleRefusedError(f"{domain} is this mesh's own trust domain")
            document = await self.fetch(request.url) if request.url else request.bundle
            added = Federated(domain, read(document, self.clock()), request.url, self.clock().timestamp())
        except (BundleRefusedError, FetchFailed) as error:
            raise Refused.because(422, "bundle-unusable", str(error)) from error
        self.ledger.put(added)
        view = _view(added)
        self.auditor.note("federation-added", domain, f"roots {', '.join(view.roots)}", added.updated)
        self.changed(self.roots())
        return view

    def remove(self, domain: str) -> None:
        """Ends a federation."""
        if not self.ledger.remove(domain):
            raise Refused.because(404, "not-found", f"the mesh is not federated with {domain!r:.80}")
        self.auditor.note("federation-removed", domain, "", self.clock().timestamp())
        self.changed(self.roots())

    async def refresh(self) -> None:
        """Fetches the bundles that are due again; one that cannot be had or read stays as it is."""
        now = self.clock()
        for each in self.ledger.all():
            if not each.url or now.timestamp() - each.updated < REFRESH_HINT:
                continue
            try:
                roots = read(await self.fetch(each.url), now)
            except (BundleRefusedError, FetchFailed) as error:
                log.warning("the bundle of %s stays as it was: %s", each.domain, error)
                continue
            self.ledger.put(Federated(each.domain, roots, each.url, now.timestamp()))
            if roots != each.roots:
                fingerprints, _ = described(roots)
                detail = f"roots {', '.join(fingerprints)}"
                self.auditor.note("federation-changed", each.domain, detail, now.timestamp())
                self.changed(self.roots())


def _view(each: Federated) -> FederatedView:
    fingerprints, expires = described(each.roots)
    return FederatedView(
        domain=each.domain, url=each.url, updated=each.updated, roots=fingerprints, expires=expires
    )
