"""Bodies of the admin API: JSON of a declared shape in, JSON out."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tulle.api.backend import Refused

T = TypeVar("T")

MAX_BODY = 16 * 1024 * 1024


async def read(request: Request, shape: type[T]) -> T:
    """The request's body. Raises `Refused` for another type, another shape, or too much of it."""
    return decode(await content(request, MAX_BODY), shape)


async def content(request: Request, most: int, patience: float | None = None) -> bytes:
    """The body's bytes. Raises `Refused` for another type or coding than plain JSON, for more than ``most`` bytes (as
    soon as that is known), and for one that is not there after ``patience`` seconds.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused.because(415, "not-json", "the body must be application/json")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refused.because(415, "compressed", "the body must not be compressed")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(patience):
            return await _collected(request, most)
    except TimeoutError:
        raise Refused.because(408, "too-slow", f"the body was not there within {patience:g} s") from None


def decode(text: bytes, shape: type[T]) -> T:
    """JSON of a shape. Raises `Refused` for anything else."""
    try:
        return msgspec.json.decode(text, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused.because(400, "malformed", str(error)) from error


async def _collected(request: Request, most: int) -> bytes:
    gathered = bytearray()
    async for chunk in request.stream():
        gathered += chunk
        if len(gathered) > most:
            raise _too_large(most)
    return bytes(gathered)


def _too_large(most: int) -> Refused:
    return Refused.because(413, "too-large", f"the body has more than {most:,} bytes")


def answer(value: Any) -> Response:
    """An answer with this message."""
    return Response(msgspec.json.encode(value), media_type="application/json")
