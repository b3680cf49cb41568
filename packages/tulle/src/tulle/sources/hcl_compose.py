"""Composes the HCL that Consul's configuration entries are written in into plain values and marks.

Consul reads HCL 1, where a block may stand inside a list's object (`HTTP { … }` without `=`); its documentation prints
entries so, and parsers of HCL 2 refuse them. Values are literals: nothing is evaluated. Size and depth are bounded
while the text is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

from tulle.objects import MarkNode, Position
from tulle.sources.yaml_compose import Composed, RefusedError

MAX_DEPTH = 32
MAX_VALUES = 100_000

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*|//[^\n]*|/\*.*?\*/)|(?P<line>\n)
    |(?P<heredoc><<-?(?P<mark>[A-Za-z_][A-Za-z0-9_]*)\r?\n)
    |(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)(?![\w.])
    |(?P<word>[A-Za-z_][A-Za-z0-9_.-]*)|(?P<mark_>[{}\[\]=:,])""",
    re.X | re.S,
)
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|["\\nrt]|.)', re.S)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: Position


def compose_hcl(text: str) -> Composed:
    """The whole text as one mapping. Raises `RefusedError` at the first wrong thing."""
    return _Parser(_tokens(text)).document()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at, line, start = 0, 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        place = (line, at - start + 1)
        if match is None:
            _refuse(f"{text[at]!r} has no place here", place)
        kind, written = match.lastgroup or "", match[0]
        if match["heredoc"]:
            kind, written = "heredoc", _heredoc(text, match, place)
            found.append(_Token(kind, written, place))
            written = match[0] + written
        elif kind not in ("space", "line"):
            found.append(_Token("sign" if kind == "mark_" else kind, written, place))
        at += len(written)
        if "\n" in written:
            line += written.count("\n")
            start = at - (len(written) - written.rindex("\n") - 1)
    found.append(_Token("end", "", (line, at - start + 1)))
    return found


def _heredoc(text: str, match: re.Match[str], place: Position) -> str:
    """Everything up to and with the line that ends it."""
    end = re.compile(rf"^[ \t]*{match['mark']}[ \t\r]*$", re.M).search(text, match.end())
    if end is None:
        _refuse(f"<<{match['mark']} does not end", place)
    return text[match.end() : end.end()]


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._values = 0

    def document(self) -> Composed:
        value, marks = self._mapping((1, 1), "end", 0)
        return value, marks

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += token.kind != "end"
        return token

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _skip(self, *signs: str) -> bool:
        token = self._peek()
        if token.kind == "sign" and token.text in signs:
            self._next += 1
            return True
        return False

    def _mapping(self, at: Position, end: str, depth: int) -> Composed:
        """Assignments and blocks up to `end`; a block that is there several times is a list of them."""
        body: dict[str, Any] = {}
        fields: dict[str, tuple[Position, MarkNode]] = {}
        while not self._ends(end):
            key = self._take()
            if key.kind not in ("word", "string"):
                _refuse(f"a name must stand here, not {key.text or 'the end'!r}", key.at)
            name = _string(key) if key.kind == "string" else key.text
            block = not self._skip("=", ":")
            if block and not (self._peek().kind == "sign" and self._peek().text == "{"):
                _refuse(f"after {name!r} must come = or {{", self._peek().at)
            value, marks = self._value(depth + 1)
            if name in body:
                if not block:
                    _refuse(f"{name!r} is there twice", key.at, fields[name][0])
                value, marks = _joined((body[name], fields[name][1]), (value, marks))
            body[name], fields[name] = value, (fields[name][0] if name in fields else key.at, marks)
            self._skip(",")
        return body, MarkNode(*at, fields=fields)

    def _ends(self, end: str) -> bool:
        token = self._peek()
        if end == "end":
            return token.kind == "end"
        if token.kind == "end":
            _refuse(f"{end!r} is missing", token.at)
        return self._skip(end)

    def _value(self, depth: int) -> Composed:
        token = self._take()
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            _refuse("there are too many values, or they are nested too deeply", token.at)
        if token.kind == "sign" and token.text == "{":
            return self._mapping(token.at, "}", depth)
        if token.kind == "sign" and token.text == "[":
            return self._list(token.at, depth)
        if token.kind == "word" and token.text in _WORDS:
            return _WORDS[token.text], MarkNode(*token.at)
        if token.kind == "string":
            return _string(token), MarkNode(*token.at)
        if token.kind == "heredoc":
            return token.text[: token.text.rfind("\n") + 1], MarkNode(*token.at)
        if token.kind == "number":
            whole = token.text.lstrip("-").isdigit() and len(token.text) < 20
            return int(token.text) if whole else float(token.text), MarkNode(*token.at)
        return _refuse(f"a value must stand here, not {token.text or 'the end'!r}", token.at)

    def _list(self, at: Position, depth: int) -> Composed:
        values, items = [], []
        while not self._ends("]"):
            value, marks = self._value(depth + 1)
            values.append(value)
            items.append(marks)
            if not self._skip(",") and not (self._peek().kind == "sign" and self._peek().text == "]"):
                _refuse("between the values of a list must be commas", self._peek().at)
        return values, MarkNode(*at, items=tuple(items))


def _joined(first: Composed, second: Composed) -> Composed:
    """Blocks of one name in a list."""
    values, marks = first
    if isinstance(values, list) and marks.items is not None:
        return [*values, second[0]], MarkNode(marks.line, marks.column, items=(*marks.items, second[1]))
    return [values, second[0]], MarkNode(marks.line, marks.column, items=(marks, second[1]))


def _string(token: _Token) -> str:
    if "${" in token.text:
        _refuse("${…} is not evaluated; write the value itself", token.at)

    def unescaped(match: re.Match[str]) -> str:
        escape = match[1]
        if escape[0] in "uU" and len(escape) > 1 and int(escape[1:], 16) <= 0x10FFFF:
            return chr(int(escape[1:], 16))
        if escape not in _ESCAPES:
            _refuse(f"\\{escape} is no escape", token.at)
        return _ESCAPES[escape]

    return _ESCAPE.sub(unescaped, token.text[1:-1])


def _refuse(message: str, at: Position, *related: Position) -> NoReturn:
    raise RefusedError("hcl-syntax", message, at, related)
