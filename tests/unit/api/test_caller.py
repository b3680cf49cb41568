"""Whose connection it is, as the kernel tells."""

from __future__ import annotations

import os
import socket

import pytest

from tulle.api.caller import describe, user_of


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_local_caller_is_named_with_its_user(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2]) as caller:
            at, server = caller.getsockname()[:2], listener.getsockname()[:2]
            assert user_of(at, server) == os.getuid()
            assert describe(at, server) == f"{host}:{at[1]} uid {os.getuid()}"
            assert user_of(at, (host, server[1] ^ 1)) is None, "another connection from the same port"
        # The kernel goes on listing what its owner has closed, as if it were root's.
        assert user_of(at, server) is None


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 4711), ("testclient", 50000)])
def test_others_are_named_by_their_address_alone(host: str, port: int) -> None:
    assert describe((host, port), ("192.0.2.2", 1)) == f"{host}:{port}"
