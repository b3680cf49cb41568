"""Bodies of the admin API: JSON of a declared shape in, JSON out."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tulle.api.backend import Refused

T = TypeVar("T")

MAX_BODY = 16 * 1024 * 1024


async def read(request: Request, shape: type[T]) -> T:
    """The request's body. Raises `Refused` for another type, another shape, or too much of it."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise Refused.because(415, "not-json", "the body must be application/json")
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY:
            raise Refused.because(413, "too-large", f"the body has more than {MAX_BODY:,} bytes")
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused.because(400, "malformed", str(error)) from error


def answer(value: Any) -> Response:
    """An answer with this message."""
    return Response(msgspec.json.encode(value), media_type="application/json")
