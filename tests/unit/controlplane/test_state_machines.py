"""The authority and the store under any sequence of steps, restarts among them, against what they promise."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tulle.identity.ca import Authority, RotationRefusedError
from tulle.identity.keys import new_key
from tulle.identity.names import SpiffeId, WorkloadIdentity
from tulle.identity.trust_state import Phase
from tulle.objects import RawObject
from tulle.sources.store import ConflictError, MissingObjectError, Store
from tulle.sources.yaml_reader import read_yaml

BOUNDS = settings(max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
DOMAIN = "cluster.local"


class AuthorityMachine(RuleBasedStateMachine):
    """Holders keep a leaf and trust what was published when they last looked: they never fail to know each other,
    as long as steps wait for them.
    """

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.authority = Authority.open(self.folder / "state", DOMAIN, self.now)
        # Per holder: its leaf, and the roots that it trusts.
        self.leaves = [self.issue(), self.issue()]
        self.trusted = [self.roots(), self.roots()]

    def issue(self) -> x509.Certificate:
        identity = WorkloadIdentity(SpiffeId(DOMAIN, "default", "a"), "a")
        issued = self.authority.issue(new_key().public_key(), identity, timedelta(hours=1), self.now)
        return x509.load_pem_x509_certificate(issued.chain[0].encode())

    def roots(self) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self.authority.root_pem.encode())

    @rule(holder=st.integers(0, 1))
    def look(self, holder: int) -> None:
        self.trusted[holder] = self.roots()

    @rule(holder=st.integers(0, 1))
    def renew(self, holder: int) -> None:
        if set(self.trusted[0]) >= set(self.roots()[:1]) <= set(self.trusted[1]):
            self.leaves[holder] = self.issue()

    @rule()
    def rotate(self) -> None:
        if self.authority.phase is Phase.STABLE:
            self.authority.begin_rotation(None, self.now)
        else:
            try:
                self.authority.begin_rotation(None, self.now)
            except RotationRefusedError:
                return
            raise AssertionError("two rotations at once")

    @rule()
    def abort(self) -> None:
        try:
            self.authority.abort(self.now)
        except RotationRefusedError:
            assert self.authority.phase is Phase.STABLE

    @precondition(lambda self: self.authority.phase is Phase.TRUST_BOTH)
    @rule()
    def switch(self) -> None:
        if all(set(self.roots()) == set(known) for known in self.trusted):
            self.authority.switch(self.now)

    @precondition(lambda self: self.authority.phase is Phase.SIGN_WITH_NEW)
    @rule()
    def drop(self) -> None:
        target = self.authority.trust.signers[self.authority.trust.state.target].root
        if all(leaf.issuer == target.subject for leaf in self.leaves):
            self.authority.drop(self.now)

    @rule()
    def crash(self) -> None:
        """A process that is killed at any step comes back with what was published."""
        before = self.authority
        self.authority = Authority.open(self.folder / "state", DOMAIN, self.now)
        assert self.authority.trust.state == before.trust.state
        assert self.authority.root_pem == before.root_pem

    @invariant()
    def everybody_knows_everybody(self) -> None:
        for leaf in self.leaves:
            for known in self.trusted:
                assert leaf.issuer in {root.subject for root in known}

    @invariant()
    def what_signs_is_trusted(self) -> None:
        assert self.authority.trust.signing.root in self.roots()
        assert len(self.roots()) == (1 if self.authority.phase is Phase.STABLE else 2)
        assert (self.folder / "state" / "ca" / "root.pem").read_text() == self.authority.root_pem

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class StoreMachine(RuleBasedStateMachine):
    """A store against a dictionary."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(self.folder / "store.db", clock=lambda: 1.0)
        self.model: dict[str, str] = {}
        self.revision = 0
        self.entries = 0

    @staticmethod
    def documents(values: dict[str, str]) -> tuple[RawObject, ...]:
        text = "\n---\n".join(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
            f"metadata: {{name: {name}}}\nspec: {{host: {value}.example}}"
            for name, value in values.items()
        )
        objects, findings = read_yaml(text, "f.yaml", 1)
        assert not findings
        return objects

    values = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), min_size=1)

    @rule(values=values, stale=st.booleans())
    def apply(self, values: dict[str, str], stale: bool) -> None:
        try:
            done = self.store.apply(self.documents(values), self.revision - 1 if stale else self.revision)
        except ConflictError:
            assert stale
            return
        assert not stale
        changed = {name for name, value in values.items() if self.model.get(name) != value}
        self.revision += bool(changed)
        self.model |= values
        assert done.revision == self.revision

    @rule(name=st.sampled_from("abc"))
    def delete(self, name: str) -> None:
        try:
            self.store.delete([("networking.istio.io", "DestinationRule", "default", name)])
        except MissingObjectError:
            assert name not in self.model
            return
        del self.model[name]
        self.revision += 1

    @rule(values=values)
    def fail_in_the_middle(self, values: dict[str, str]) -> None:
        """Changes and their audit entry are taken back together."""
        try:
            with self.store.together():
                self.store.apply(self.documents(values))
                self.store.ledger.audit("event", "subject", "", 1)
                raise RuntimeError
        except RuntimeError:
            return

    @rule()
    def audit(self) -> None:
        self.store.ledger.audit("event", "subject", "", 1)
        self.entries += 1

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store.open(self.folder / "store.db", clock=lambda: 1.0)

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert {each.name: each.body["spec"]["host"][0] for each in self.store.objects()} == self.model
        assert self.store.revision == self.revision
        verified = self.store.ledger.verify()
        assert (verified.fault, verified.entries) == (None, self.entries)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestAuthority = AuthorityMachine.TestCase
TestAuthority.settings = BOUNDS
TestStore = StoreMachine.TestCase
TestStore.settings = BOUNDS
