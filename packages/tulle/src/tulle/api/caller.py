"""Who has the other end of a local connection: the user that the kernel says it is."""

from __future__ import annotations

from contextvars import ContextVar
from ipaddress import ip_address
from pathlib import Path

CALLER: ContextVar[str] = ContextVar("CALLER", default="")
"""Who sent the request that is being served, for the audit log; empty outside of one."""

_TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}
_LOCAL, _REMOTE, _UID, _INODE = 1, 2, 7, 9

Address = tuple[str, int]


def user_of(caller: Address, server: Address) -> int | None:
    """The user id of the process that has the caller's end of a connection; None when it is not on this machine.

    Also None when that end is closed already: the kernel then says 0, which is not to be taken for root.
    """
    ends = _hex(*caller), _hex(*server)
    if None in ends:
        return None
    try:
        table = _TABLES[ip_address(caller[0]).version].read_text()
    except OSError:
        return None
    for line in table.splitlines()[1:]:
        fields = line.split()
        if (fields[_LOCAL], fields[_REMOTE]) == ends:
            return int(fields[_UID]) if fields[_INODE] != "0" else None
    return None


def describe(caller: Address, server: Address) -> str:
    """`HOST:PORT`, followed by the user id of whoever has that end of the connection, if it is on this machine."""
    user = user_of(caller, server)
    return f"{caller[0]}:{caller[1]}" + (f" uid {user}" if user is not None else "")


def _hex(host: str, port: int) -> str | None:
    """An address as the kernel's tables have it."""
    try:
        packed = ip_address(host).packed
    except ValueError:
        return None
    words = [packed[at : at + 4][::-1].hex() for at in range(0, len(packed), 4)]
    return f"{''.join(words)}:{port:04x}".upper()
