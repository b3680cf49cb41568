"""Judges what Kubernetes is about to store as `tulle apply` would, and changes nothing: the webhook's backend."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tulle.api.backend import Refused
from tulle.api.body import decode
from tulle.api.caller import CALLER
from tulle.api.webhook import AdmissionRequest, AdmissionResponse, Cause, Details, Status
from tulle.buckets import Buckets
from tulle.controlplane.configuration import Configuration, ConfigurationRefused, Rehearsal, unknown
from tulle.dialects import KindInfo, known_kinds
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.model.source import SourceRef
from tulle.objects import DEFAULT_NAMESPACE, ObjectKey
from tulle.sources.documents import crowded, read_document

log = logging.getLogger(__name__)

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"
OPERATIONS = (CREATE, UPDATE, DELETE, CONNECT)

MAX_CAUSES, MAX_CAUSE = 20, 1000
"""How many things are said to be wrong at most, and with how many characters each."""

MAX_WARNING, MAX_WARNINGS = 256, 4096
"""Characters of one warning and of all: of longer ones Kubernetes cuts the rest off, and drops what is beyond."""

LOGGED_PER_SECOND, LOGGED_AT_ONCE = 0.2, 10.0

GENERATED = "00000"
"""What stands for the end of a name that the API server will make up: as long as it, of the same letters."""


@dataclass(slots=True)
class Reviewer:
    """Implements `tulle.api.webhook.WebhookBackend`. `clock` is in seconds since 1970."""

    configuration: Configuration
    clock: Callable[[], float] = time.time
    _logged: Buckets = field(default_factory=lambda: Buckets(LOGGED_PER_SECOND, LOGGED_AT_ONCE))

    async def review(self, request: AdmissionRequest) -> AdmissionResponse:
        """The verdict by what holds now. A large object takes its time, which is not that of the sidecars."""
        return await asyncio.to_thread(self.judge, request, self.configuration.rehearsal())

    def judge(self, request: AdmissionRequest, trial: Rehearsal) -> AdmissionResponse:
        """The verdict. Kinds that are not read, sub-resources and connections are none of our business."""
        if request.operation not in OPERATIONS:
            message = f"request.operation must be one of {', '.join(OPERATIONS)}, not {request.operation!r:.80}"
            raise Refused.because(400, "not-a-review", message)
        info = _KINDS.get((request.kind.group, request.kind.kind))
        if info is None or request.sub_resource or request.operation == CONNECT:
            return AdmissionResponse(uid=request.uid, allowed=True)
        if request.operation == DELETE:
            return _allowed(request, _missed(trial, _key(request, info)))
        text, unread = bytes(request.object), _Reviewed.of(request, info, None)
        crowd = crowded(text, unread.reference)
        if crowd is not None:
            return _denied(unread, (crowd,), 422)
        body = decode(text, object)
        if isinstance(body, dict) and _at(body, "metadata", "deletionTimestamp") is not None:
            # It is on its way out; refusing would keep it here.
            return AdmissionResponse(uid=request.uid, allowed=True)
        response = self._judged(_Reviewed.of(request, info, body), trial)
        if not response.allowed:
            self._note(request, response)
        return response

    def _judged(self, reviewed: _Reviewed, trial: Rehearsal) -> AdmissionResponse:
        request, sequence = reviewed.request, int(self.clock() * 1_000_000)
        mismatch = reviewed.mismatch()
        if mismatch is not None:
            return _denied(reviewed, (mismatch,), 400)
        obj = read_document(reviewed.body, reviewed.reference, sequence)
        if isinstance(obj, Diagnostic):
            return _denied(reviewed, (obj,), 400 if obj.code == "not-an-object" else 422)
        try:
            draft = trial.propose([obj])
        except ConfigurationRefused as refused:
            new = unknown(refused.diagnostics, _errors_before(reviewed, sequence, trial))
            if new:
                return _denied(reviewed, new, 422)
            # As it is stored already: what changes may be a label, or the status of one that nobody mended.
            return _allowed(request, refused.diagnostics)
        warnings = [each for each in draft.diagnostics if each.severity is Severity.WARNING]
        return _allowed(request, [each for each in warnings if each.source.file == reviewed.reference])

    def _note(self, request: AdmissionRequest, response: AdmissionResponse) -> None:
        """One line for an operator, without anything that the object says."""
        if response.status is None or not self._logged.take("", self.clock()):
            return
        what = f"{request.kind.kind} {request.namespace or ''}/{response.status.details.name}"
        codes = sorted({each.reason for each in response.status.details.causes})
        log.warning("webhook: %s refused to %s: %s", repr(what)[:200], CALLER.get(), ", ".join(codes))


@dataclass(frozen=True, slots=True)
class _Reviewed:
    """An object that is to be created or changed; what Kubernetes says beside it is filled in."""

    request: AdmissionRequest
    info: KindInfo
    body: object
    reference: str

    @classmethod
    def of(cls, request: AdmissionRequest, info: KindInfo, body: object) -> _Reviewed:
        """Names the object by what it says itself where Kubernetes does not say it."""
        name = request.name or _text(_at(body, "metadata", "name")) or _generated(body)
        place = f"{request.namespace}/" if info.namespaced and request.namespace else ""
        bare = cls(request, info, body, f"{info.kind} {place}{name}")
        return cls(request, info, bare.completed(body), bare.reference)

    def completed(self, body: object) -> object:
        """The document with the namespace and the name that it will have, without what says who manages which field."""
        metadata = _at(body, "metadata")
        if not isinstance(body, dict) or not isinstance(metadata, dict):
            return body
        given: dict[str, Any] = {}
        if metadata.get("name") is None and _generated(body):
            given["name"] = self.request.name or _generated(body)
        if metadata.get("namespace") is None and self.info.namespaced and self.request.namespace:
            given["namespace"] = self.request.namespace
        own = {key: value for key, value in metadata.items() if key != "managedFields"}
        return {**body, "metadata": {**own, **given}}

    def mismatch(self) -> Diagnostic | None:
        """Where the object is another one than the request is about."""
        asked, request = self.request.kind, self.request
        wanted: dict[tuple[str, ...], str | None] = {
            ("apiVersion",): f"{asked.group}/{asked.version}" if asked.group else asked.version,
            ("kind",): asked.kind,
            ("metadata", "name"): request.name,
            ("metadata", "namespace"): request.namespace if self.info.namespaced else None,
        }
        for path, value in wanted.items():
            found = _at(self.body, *path)
            if value and isinstance(found, str) and found != value:
                said, field_name = f"the request is about {value!r:.80}, its object about {found!r:.80}", ".".join(path)
                return Diagnostic(Severity.ERROR, "another-object", said, SourceRef(self.reference), field_name)
        return None


def _errors_before(reviewed: _Reviewed, sequence: int, trial: Rehearsal) -> tuple[Diagnostic, ...]:
    """What is wrong with the object that is to be replaced; nothing where there is none."""
    text = bytes(reviewed.request.old_object)
    if text == b"null" or crowded(text, reviewed.reference) is not None:
        return ()
    body = reviewed.completed(decode(text, object))
    old = read_document(body, reviewed.reference, sequence)
    if isinstance(old, Diagnostic):
        return (old,)
    try:
        trial.propose([old])
    except ConfigurationRefused as refused:
        return refused.diagnostics
    return ()


def _missed(trial: Rehearsal, key: ObjectKey) -> tuple[Diagnostic, ...]:
    """What is found when an applied object goes. It may go all the same: its namespace may be going too."""
    if key not in trial.current.stored:
        return ()
    try:
        draft = trial.propose((), [key])
    except ConfigurationRefused as refused:
        return refused.diagnostics
    found = unknown(draft.diagnostics, trial.current.diagnostics)
    return tuple(each for each in found if each.severity is Severity.WARNING)


def _denied(reviewed: _Reviewed, found: Iterable[Diagnostic], code: int) -> AdmissionResponse:
    causes = [
        Cause(reason=each.code, message=_said(each)[:MAX_CAUSE], field=each.field or "")
        for each in found
        if each.severity is Severity.ERROR
    ]
    lines = [each.message for each in causes[:MAX_CAUSES]]
    if len(causes) > MAX_CAUSES:
        lines.append(f"and {len(causes) - MAX_CAUSES} more")
    request = reviewed.request
    details = Details(
        name=reviewed.reference.rpartition(" ")[2].rpartition("/")[2],
        group=request.kind.group, kind=request.kind.kind, causes=causes[:MAX_CAUSES],
    )
    reason = "BadRequest" if code == 400 else "Invalid"
    status = Status(code=code, reason=reason, message="\n".join(lines), details=details)
    return AdmissionResponse(uid=request.uid, allowed=False, status=status)


def _allowed(request: AdmissionRequest, found: Iterable[Diagnostic]) -> AdmissionResponse:
    warnings, left = [], MAX_WARNINGS
    for text in map(_said, found):
        short = text if len(text) <= MAX_WARNING else text[: MAX_WARNING - 3] + "..."
        if len(short) <= left:
            warnings.append(short)
            left -= len(short)
    return AdmissionResponse(uid=request.uid, allowed=True, warnings=warnings)


def _said(found: Diagnostic) -> str:
    """The finding in one line; that it is an error or a warning is said by where it stands."""
    return str(found).replace(f": {found.severity}: ", ": ", 1)


def _key(request: AdmissionRequest, info: KindInfo) -> ObjectKey:
    namespace = (request.namespace or DEFAULT_NAMESPACE) if info.namespaced else ""
    return (info.group, info.kind, namespace, request.name or "")


def _generated(body: object) -> str:
    prefix = _text(_at(body, "metadata", "generateName"))
    return prefix + GENERATED if prefix else ""


def _at(body: object, *path: str) -> object:
    for step in path:
        body = body.get(step) if isinstance(body, dict) else None
    return body


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


_KINDS: Mapping[tuple[str, str], KindInfo] = {
    (info.group, info.kind): info for info in known_kinds() if info.in_clusters
}
