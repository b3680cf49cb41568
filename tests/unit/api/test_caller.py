"""Whose connection it is, as the kernel tells."""

from __future__ import annotations

import os
import socket

import pytest

from tulle.api.caller import describe


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_local_caller_is_named_with_its_user(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2]) as caller:
            port = caller.getsockname()[1]
            assert describe(host, port) == f"{host}:{port} uid {os.getuid()}"


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 4711), ("testclient", 50000)])
def test_others_are_named_by_their_address_alone(host: str, port: int) -> None:
    assert describe(host, port) == f"{host}:{port}"
