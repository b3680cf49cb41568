"""How a command fails: a message for people, an exit status for programs."""

from __future__ import annotations

EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "wrong usage, or a configuration that was refused",
    3: "no control plane answers",
}
"""What each status means; `exec` ends with its command's own status, and 126 or 127 when that cannot be run."""

FAILED, REFUSED, UNREACHABLE = 1, 2, 3


class Failure(Exception):
    """Ends the command with a message on standard error and an exit status."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
