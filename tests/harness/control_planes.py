"""A control plane by itself, as a process: its addresses, its CLI, its admin API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS = 60.0
STOP_SECONDS = 30.0

WORKLOADS = """
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: front, namespace: shop}
spec: {serviceAccount: front, env: {PASSWORD: swordfish}}
---
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: till, namespace: bank}
spec: {serviceAccount: till}
"""


@dataclass
class ControlPlane:
    """A running `tulle control-plane` over one folder. `more` are its options."""

    folder: Path
    more: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    ready: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.folder / "control-plane.log").read_text(errors="replace")

    def begin(self) -> None:
        """Starts it without waiting."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "tulle.cli", "control-plane", "--state", str(self.state)]
        argv += ["--ready-file", str(ready), *self.more]
        if (self.folder / "config").exists():
            argv += ["--config", str(self.folder / "config")]
        with (self.folder / "control-plane.log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)

    def start(self) -> None:
        """Starts it and waits until it serves."""
        self.begin()
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while not (self.folder / "ready.json").exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)
        self.ready = json.loads((self.folder / "ready.json").read_text())

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def refuses_to_start(self) -> str:
        """Starts it, waits for it to give up with status 2, and returns what it said."""
        before = len(self.log) if (self.folder / "control-plane.log").exists() else 0
        self.begin()
        assert self.process is not None
        assert self.process.wait(START_SECONDS) == 2, self.log
        return self.log[before:]

    def tulle(
        self, *words: str, text: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs the CLI against it; what is given besides words is put into its environment."""
        given = {name: value for name, value in os.environ.items() if not name.startswith("TULLE_")}
        argv = [sys.executable, "-m", "tulle.cli", *words]
        whole = {**given, "TULLE_API": self.ready["api"], **environment}
        return subprocess.run(
            argv, capture_output=True, text=True, env=whole, input=text, timeout=60, check=False
        )


@contextmanager
def control_plane(folder: Path, config: str = WORKLOADS, more: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """A control plane that serves, and is gone afterwards."""
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "mesh.yaml").write_text(config)
    running = ControlPlane(folder, more)
    try:
        running.start()
        yield running
    finally:
        running.kill()
