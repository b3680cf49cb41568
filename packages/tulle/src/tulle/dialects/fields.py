"""Field types that several dialects' schemas share: strict, with messages that say what would be right."""

from __future__ import annotations

import ipaddress
import re
import warnings
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tulle.objects import show

MAX_REGEX = 4096
MAX_REPEATS = 1000
MAX_DURATION = timedelta(days=3650)

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:h|ms|m|s|us|µs|ns)")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?)*\.?\Z")  # fmt: skip  # noqa: E501
_HEADER = re.compile(r":?[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_RE2_LACKS = re.compile(r"\(\?(?:[=!]|<[=!]|\()|\\[1-9]|\(\?P=|\(\?>|[*+?}]\+")
_TERM = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(?P<open>\()|(?P<close>\))|\{(?P<low>\d+)(?:,(?P<high>\d*))?\}|.",
    re.DOTALL,
)
"""What a regular expression is made of, as far as counted repetitions are concerned."""

_RE2_ALSO_REFUSES = (
    "unterminated",
    "missing )",
    "unbalanced",
    "nothing to repeat",
    "multiple repeat",
    "bad character range",
)


class Schema(BaseModel):
    """A mapping of the API: unknown fields are refused, types are not converted, names are in camelCase."""

    # Validators are built when a kind is first met: start-up time counts, and few meshes use every kind.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True, defer_build=True
    )


class Unsupported:
    """Marks a field that the dialect has and that has no effect yet; ``why`` completes the diagnostic."""

    def __init__(self, why: str = "") -> None:
        self.why = why


class Ignored:
    """Marks a field that is accepted and rightly without effect: only the API server writes it."""


def parse_duration(text: Any) -> timedelta:
    """Go's duration syntax (``1h30m``, ``1.5s``, ``10ms``), without sign; at most ten years."""
    if not isinstance(text, str):
        raise ValueError(f"must be a duration such as 10s or 1m30s, not {show(text)}")
    if text == "0":
        return timedelta()
    parts = _DURATION.findall(text) if len(text) <= 64 else []
    if not parts or "".join(parts) != text:
        raise ValueError(f"must be a duration such as 10s, 250ms or 1m30s, not {show(text)}")
    total = 0.0
    for part in parts:
        number = part.rstrip("hmsuµn")
        total += float(number) * _UNITS[part[len(number) :]]
    if total > MAX_DURATION.total_seconds():
        raise ValueError(f"must be at most ten years, not {show(text)}")
    return timedelta(seconds=total)


def check_regex(pattern: str) -> str:
    """Refuses what RE2, the engine of every data plane, refuses for certain."""
    if len(pattern) > MAX_REGEX:
        raise ValueError(
            f"must be a regular expression of at most {MAX_REGEX} characters, not {len(pattern)}"
        )
    if lacks := _RE2_LACKS.search(pattern):
        raise ValueError(
            f"must be RE2, which has no look-around, back-reference or possessive repetition: {lacks[0]!r}"
        )
    if _repeats(pattern) > MAX_REPEATS:
        raise ValueError(
            f"must not repeat more than {MAX_REPEATS} times, one in the other taken together (RE2)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
    except re.error as error:
        if error.msg.startswith(_RE2_ALSO_REFUSES):
            raise ValueError(f"must be a regular expression: {error.msg} at position {error.pos}") from error
    except (RecursionError, OverflowError) as error:
        raise ValueError("must be a regular expression that is not nested this deeply") from error
    return pattern


def _repeats(pattern: str) -> int:
    """How often at most something is repeated by counted repetitions, those within each other multiplied."""
    levels = [1]
    last = 1  # of the term that a repetition would be about
    for token in _TERM.finditer(pattern):
        opened, closed, low, high = token["open"], token["close"], token["low"], token["high"]
        if opened:
            levels.append(1)
            last = 1
        elif closed:
            inner = levels.pop() if len(levels) > 1 else levels[0]
            last = inner
            levels[-1] = max(levels[-1], inner)
        elif low:
            last *= max(1, int(high or low))
            levels[-1] = max(levels[-1], last)
        else:
            last = 1
    return max(levels)


def is_ip(text: str) -> bool:
    """Whether ``text`` is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _host(text: str) -> str:
    if text == "*" or is_ip(text) or (len(text) <= 255 and _HOST.match(text)):
        return text
    raise ValueError(f"must be a host name such as reviews, reviews.prod or *.example.com, not {show(text)}")


def _plain_host(text: str) -> str:
    if text.startswith("*"):
        raise ValueError(f"must be one host, without wildcard, not {show(text)}")
    return _host(text)


def _dns_label(text: str) -> str:
    if not _LABEL.match(text):
        raise ValueError(
            f"must be lower-case letters, digits and '-', at most 63 characters, not {show(text)}"
        )
    return text


def _subdomain(text: str) -> str:
    if not _SUBDOMAIN.match(text):
        raise ValueError(
            f"must be lower-case letters, digits, '-' and '.', at most 253 characters, not {show(text)}"
        )
    return text


def check_header_name(text: str) -> str:
    """Refuses what no header is called."""
    if not _HEADER.match(text) or len(text) > 256:
        raise ValueError(f"must be a header name, not {show(text)}")
    return text


def _header_value(text: str) -> str:
    if any(ord(char) < 0x20 and char != "\t" for char in text) or "\x7f" in text:
        raise ValueError("must be a header value, without control characters")
    return text


def _address(text: str) -> str:
    if text.startswith("unix://") or is_ip(text):
        return text
    return _plain_host(text)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Regex = Annotated[str, AfterValidator(check_regex)]
Host = Annotated[str, Field(min_length=1), AfterValidator(_host)]
PlainHost = Annotated[str, Field(min_length=1), AfterValidator(_plain_host)]
DnsLabel = Annotated[str, Field(min_length=1), AfterValidator(_dns_label)]
Subdomain = Annotated[str, Field(min_length=1), AfterValidator(_subdomain)]
HeaderName = Annotated[str, Field(min_length=1), AfterValidator(check_header_name)]
HeaderText = Annotated[str, AfterValidator(_header_value)]
Address = Annotated[str, Field(min_length=1), AfterValidator(_address)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=0, le=2**32 - 1)]
Signed = Annotated[int, Field(ge=0, le=2**31 - 1)]
PercentInt = Annotated[int, Field(ge=0, le=100)]
PercentFloat = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


def positive(duration: timedelta) -> timedelta:
    """Refuses durations below a millisecond, as Istio does where it asks for at least one."""
    if duration < timedelta(milliseconds=1):
        raise ValueError("must be at least 1ms")
    return duration


PositiveDuration = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(positive)]
