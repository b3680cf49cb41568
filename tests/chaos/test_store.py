"""Faults of the state directory (rows 5 to 9): kills in the middle of commits, damage, a full disk, two owners."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.control_planes import ControlPlane, control_plane
from tulle.controlplane.accepted import Accepted
from tulle.sources.store import Store

COMMITS, KILLS = 1000, 20

# For every number it is told, a child of its own commits pairs of objects from that one on for ever, through the
# control plane's own code, and says after each what was acknowledged. Reading that code takes time, and is done once.
COMMITTER = '''
import os, sys, time
from pathlib import Path
from tulle.controlplane.accepted import Accepted
from tulle.controlplane.audit import Auditor
from tulle.controlplane.configuration import Configuration
from tulle.controlplane.placements import Placements
from tulle.sources.store import Store
from tulle.sources.yaml_reader import read_yaml
from tulle.api import wire

PAIR = """
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {{name: one, namespace: default, annotations: {{number: "{0}"}}}}
spec: {{host: example.org}}
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {{name: two, namespace: default, annotations: {{number: "{0}"}}}}
spec: {{host: example.com}}
"""

def commit(state, first):
    store = Store.open(state / "store.db")
    accepted = Accepted.load(state)
    configuration = Configuration((), store, accepted, Placements.load(store.ledger), changed=lambda compiled: None)
    configuration.start()
    auditor = Auditor(store.ledger, time.time)
    for number in range(first, 1 << 30):
        objects, wrong = read_yaml(PAIR.format(number), "pair.yaml", number)
        assert not wrong
        draft = configuration.propose(objects)
        done = wire.ObjectResult(api_version="v1", kind="Pair", namespace="default", name=str(number), result="created")
        configuration.commit(draft, lambda revision: auditor.changed([done], revision))
        print(number, flush=True)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        commit(Path(sys.argv[1]), int(line))
    os.waitpid(child, 0)
    print("gone", flush=True)
'''

Committer = subprocess.Popen[str]


@pytest.fixture
def committer(tmp_path: Path) -> Iterator[Committer]:
    argv = [sys.executable, "-c", COMMITTER, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def commit_until_killed(committer: Committer, first: int, count: int) -> int:
    """Has pairs committed from a number on and kills the process at one of the next; the last that was acknowledged."""
    assert committer.stdin is not None
    assert committer.stdout is not None
    committer.stdin.write(f"{first}\n")
    committer.stdin.flush()
    child = int(committer.stdout.readline())
    last = first - 1
    for line in iter(committer.stdout.readline, "gone\n"):
        assert line, "the committer itself ended"
        last = int(line)
        if last == first + count - 1:
            # The next commit is under way.
            os.kill(child, signal.SIGKILL)
    return last


def test_twenty_kills_during_a_thousand_commits_lose_nothing_and_leave_nothing_partial(
    tmp_path: Path, committer: Committer
) -> None:
    chance = random.Random(20)
    last, every = 0, set[int]()
    for kill in range(KILLS):
        count = COMMITS // KILLS + (chance.randrange(-9, 10) if kill < KILLS - 1 else 10)
        first = last + 1
        last = commit_until_killed(committer, first, count)
        assert last >= first + count - 1
        every |= set(range(first, last + 1))
        store = Store.open(tmp_path / "store.db")
        kept = [int(each.annotations["number"]) for each in store.objects()]
        audited = [
            int(each.subject.split()[1].removeprefix("default/")) for each in store.ledger.audit_log(100_000)
        ]
        whole, revision = store.ledger.verify().fault, store.revision
        store.close()
        assert len(kept) == 2
        assert kept[0] == kept[1], "all of a commit or nothing"
        assert last <= kept[0] <= last + 1, "what was acknowledged is there"
        assert every <= set(audited), "every commit is in the log"
        assert len(audited) == len(set(audited))
        assert set(audited) - every <= {kept[0]}, "nothing is in the log that is not in force"
        assert whole is None
        assert Accepted.load(tmp_path).store_revision <= revision, "the store is never the older one"
        last = kept[0]
        every.add(last)
    assert last >= COMMITS - 200


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    with control_plane(tmp_path / "plane") as running:
        yield running


RULE = """
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {{name: {name}, namespace: shop}}
spec: {{host: {name}.example}}
"""


def apply(plane: ControlPlane, name: str) -> subprocess.CompletedProcess[str]:
    return plane.tulle("apply", "-f", "-", text=RULE.format(name=name))


@dataclass(frozen=True, slots=True)
class Kept:
    """The state of a control plane that was given one object and has ended, and a backup of it."""

    folder: Path
    backup: Path

    def again(self, folder: Path) -> ControlPlane:
        """A control plane that has yet to start, on a copy."""
        shutil.copytree(self.folder, folder)
        return ControlPlane(folder, ready={"api": "http://127.0.0.1:1"})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    found = Kept(folder / "plane", folder / "backup")
    with control_plane(found.folder) as running:
        assert apply(running, "first").returncode == 0
        assert running.tulle("backup", str(found.backup), "--state", str(running.state)).returncode == 0
        assert running.stop() == 0
    return found


@dataclass(frozen=True)
class Damage:
    """What is done to a file: cut to a share of its length, or bits flipped in the middle."""

    file: str
    cut: bool

    def do(self, state: Path) -> None:
        path = state / self.file
        content = bytearray(path.read_bytes())
        if self.cut:
            content = content[: len(content) // 2]
        else:
            for at in range(len(content) // 3, 2 * len(content) // 3, 7):
                content[at] ^= 0x5A
        path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("store.db", True),
        Damage("store.db", False),
        Damage("accepted.json", False),
        Damage("ca/state.json", True),
    ],
    ids=lambda each: f"{each.file}-{'cut' if each.cut else 'flipped'}",
)
def test_a_damaged_state_is_refused_with_the_way_back(kept: Kept, tmp_path: Path, damage: Damage) -> None:
    plane = kept.again(tmp_path / "plane")
    damage.do(plane.state)
    before = (plane.state / damage.file).read_bytes()
    said = plane.refuses_to_start()
    assert damage.file.rpartition("/")[2].partition(".")[0] in said or "root" in said, said
    assert "estore" in said, "it says how to come back"
    assert "Traceback" not in said
    assert (plane.state / damage.file).read_bytes() == before, "and it repaired nothing behind anybody's back"


def test_the_way_back_leads_to_what_was_there(kept: Kept, tmp_path: Path) -> None:
    plane = kept.again(tmp_path / "plane")
    try:
        refused = plane.tulle("restore", str(kept.backup), "--state", str(plane.state))
        assert refused.returncode != 0, "over what is there"
        plane.state.rename(tmp_path / "damaged")
        assert plane.tulle("restore", str(kept.backup), "--state", str(plane.state)).returncode == 0
        plane.start()
        assert "first" in plane.tulle("get", "dr", "-A").stdout
    finally:
        plane.kill()


def test_a_full_disk_refuses_changes_clearly_and_stops_nothing_else(plane: ControlPlane) -> None:
    assert plane.process is not None
    assert apply(plane, "before").returncode == 0
    # What a full disk is to a process: no file may grow any more.
    _, most = resource.prlimit(plane.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(plane.process.pid, resource.RLIMIT_FSIZE, (0, most))
    refused = apply(plane, "during")
    assert refused.returncode == 1
    assert "cannot be written" in refused.stderr or "File too large" in refused.stderr, refused.stderr
    token = plane.tulle("token", "create", "late")
    assert token.returncode == 1
    shown = plane.tulle("get", "dr", "-A")
    assert "before" in shown.stdout
    assert "during" not in shown.stdout
    assert plane.tulle("status").returncode == 0
    resource.prlimit(plane.process.pid, resource.RLIMIT_FSIZE, (most, most))
    assert apply(plane, "after").returncode == 0
    assert plane.tulle("audit", "--verify").returncode == 0
    plane.kill()
    plane.start()
    shown = plane.tulle("get", "dr", "-A").stdout
    assert [name in shown for name in ("before", "during", "after")] == [True, False, True]


def test_an_older_store_is_never_taken_silently(plane: ControlPlane, tmp_path: Path) -> None:
    assert apply(plane, "first").returncode == 0
    assert plane.stop() == 0
    shutil.copy2(plane.state / "store.db", tmp_path / "older.db")
    plane.start()
    assert apply(plane, "second").returncode == 0
    assert plane.stop() == 0
    shutil.copy2(tmp_path / "older.db", plane.state / "store.db")
    said = plane.refuses_to_start()
    assert "older" in said
    assert "--accept-older-store" in said
    plane.more = ["--accept-older-store"]
    plane.start()
    shown = plane.tulle("get", "dr", "-A").stdout
    assert [name in shown for name in ("first", "second")] == [True, False]


def test_of_two_control_planes_one_writes(plane: ControlPlane) -> None:
    second = ControlPlane(plane.folder / "second", ["--state", str(plane.state)])
    second.folder.mkdir()
    try:
        said = second.refuses_to_start()
    finally:
        second.kill()
    assert "in use by another control plane" in said
    assert apply(plane, "mine").returncode == 0


def test_a_killed_owner_leaves_no_lock_behind(plane: ControlPlane) -> None:
    plane.kill()
    plane.start()
    assert apply(plane, "mine").returncode == 0


@pytest.mark.parametrize(
    ("path", "mode"), [(".", 0o777), ("store.db", 0o666), ("accepted.json", 0o620), ("ca", 0o755)]
)
def test_a_state_that_others_may_write_is_refused(kept: Kept, tmp_path: Path, path: str, mode: int) -> None:
    plane = kept.again(tmp_path / "plane")
    (plane.state / path).chmod(mode)
    said = plane.refuses_to_start()
    assert "open to other users" in said
    assert "chmod" in said, "and it says what to do"


def test_what_is_kept_is_readable_by_its_owner_alone(plane: ControlPlane) -> None:
    open_to_others = [
        str(path.relative_to(plane.state))
        for path in plane.state.rglob("*")
        if path.stat().st_mode & 0o077 and path.suffix not in {".db-shm", ".db-wal"}
    ]
    assert plane.state.stat().st_mode & 0o777 == 0o700
    assert not open_to_others
    assert json.loads((plane.state / "api.json").read_text())["pid"] == plane.ready["pid"] != os.getpid()
