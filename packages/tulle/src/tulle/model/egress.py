"""Addresses that nobody reaches through a proxy unless the mesh's settings allow it.

What listens there takes its callers for local ones: the machine's own services (and with them the admin ports of
control plane and proxies), and the metadata services of clouds, which hand out credentials to whoever asks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

FORBIDDEN = (
    "0.0.0.0/8",  # "this host", which most systems take for loopback
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local, where most clouds have their metadata
    "100.100.100.200/32",  # metadata of Alibaba Cloud
    "168.63.129.16/32",  # Azure's
    "192.0.0.192/32",  # Oracle's, on older machines
    "::/128",
    "::1/128",
    "fe80::/10",
    "fd00:ec2::254/128",  # AWS's metadata
    "fd20:ce::254/128",  # Google's
)
"""Networks, in the form that every data plane reads; addresses mapped into IPv6 count as what they map."""

MAPPED = ("::ffff:0.0.0.0/104", "::ffff:127.0.0.0/104", "::ffff:169.254.0.0/112")
"""The same for data planes that do not know of mapping."""

_NAMES = {"localhost": "127.0.0.1", "metadata.google.internal": "169.254.169.254"}
_NETWORKS = tuple(ipaddress.ip_network(each) for each in FORBIDDEN)


def forbidden(address: str, allowed: Iterable[str] = ()) -> bool:
    """Whether an address is off limits. Of names only the well-known are: what others resolve to is looked at when
    they do.
    """
    name = address.lower().rstrip(".")
    address = "127.0.0.1" if name.endswith(".localhost") else _NAMES.get(name, address)
    try:
        found = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if not any(found in network for network in _NETWORKS):
        return False
    return not any(found in ipaddress.ip_network(each) for each in allowed)
