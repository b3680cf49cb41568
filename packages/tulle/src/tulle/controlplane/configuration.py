"""The configuration in force: changes are compiled as a whole, then accepted, or refused with the reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tulle.controlplane.accepted import Accepted, fingerprint
from tulle.controlplane.compile import Compiled, Compiler, Objects, Placed, replace_placements
from tulle.controlplane.files import FileContent, merge_files, read_files
from tulle.controlplane.placements import Placements
from tulle.model.diagnostics import Diagnostic, Severity
from tulle.objects import ObjectKey, RawObject
from tulle.sources.store import Store
from tulle.sources.store_db import OlderStoreError

Changed = Callable[[Compiled], None]


class ConfigurationRefused(Exception):
    """The configuration has errors; what was in force stays so."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("; ".join(str(each) for each in diagnostics))
        self.diagnostics = tuple(diagnostics)


@dataclass(frozen=True, slots=True)
class Draft:
    """A configuration before it is accepted."""

    files: Mapping[str, FileContent]
    stored: Objects
    overrides: Mapping[ObjectKey, str]
    compiled: Compiled
    findings: tuple[Diagnostic, ...]

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All findings: of reading files, of lowering, of linking."""
        return self.findings + self.compiled.diagnostics

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings that refuse something."""
        return tuple(found for found in self.diagnostics if found.severity is Severity.ERROR)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What holds at one moment, against which changes are tried; with a compiler of its own in any thread."""

    current: Draft
    compiler: Compiler
    placed: Iterable[Placed]

    def propose(self, put: Iterable[RawObject], remove: Iterable[ObjectKey] = ()) -> Draft:
        """The configuration with stored objects changed. Raises `ConfigurationRefused`."""
        current = self.current
        declared, _ = merge_files(current.files)
        gone = set(remove)
        stored = {key: obj for key, obj in current.stored.items() if key not in gone}
        overrides = {key: mark for key, mark in current.overrides.items() if key not in gone}
        for obj in put:
            before = current.compiled.objects.get(obj.key)
            stored[obj.key] = replace(obj, created=before.created) if before is not None else obj
            if obj.key in declared:
                overrides[obj.key] = fingerprint(declared[obj.key].body)
        draft = _drafted(current.files, stored, overrides, self.compiler, self.placed)
        new = unknown(draft.errors, current.errors)
        if new:
            raise ConfigurationRefused(new)
        return draft


@dataclass(slots=True)
class Configuration:
    """What holds now, and the ways to change it. ``changed`` is called with every newly accepted meaning."""

    paths: Sequence[Path]
    store: Store
    accepted: Accepted
    placements: Placements
    changed: Changed
    ignored: Sequence[Path] = ()
    older_store: bool = False
    """Whether an older store is to be taken all the same."""
    """Files in configured directories that are not configuration."""
    refused: tuple[Diagnostic, ...] = ()
    _compiler: Compiler = field(default_factory=Compiler)
    _current: Draft | None = None

    @property
    def current(self) -> Draft:
        """The configuration in force. Only after :meth:`start`."""
        if self._current is None:
            raise RuntimeError("the configuration has not been started")
        return self._current

    def start(self) -> None:
        """Reads everything for the first time. A file that is broken now is taken as it was last accepted.

        Raises `ConfigurationRefused` when that does not make a configuration without errors, `OlderStoreError` for a
        store from before what was in force last.
        """
        if self.store.revision < self.accepted.store_revision and not self.older_store:
            raise OlderStoreError(self.store.path, self.store.revision, self.accepted.store_revision)
        files = read_files(self.paths, self.ignored)
        draft = self._draft(files, self._stored(), self.accepted.overrides)
        if draft.errors:
            refused = draft.errors
            old = {name: FileContent(objects, ()) for name, objects in self.accepted.files.items() if name in files}
            draft = self._draft({**files, **old}, self._stored(), self.accepted.overrides)
            if not old or draft.errors:
                raise ConfigurationRefused(refused)
            self.refused = refused
        self._accept(draft)

    def files_changed(self) -> None:
        """Reads the files again. Files that bring new errors are refused and stay as they were."""
        fresh = read_files(self.paths, self.ignored)
        old = self.current.files
        if fresh == old:
            self.refused = ()
            return
        draft = self._draft(fresh, self.current.stored, self.current.overrides)
        new = self._new_errors(draft)
        if new:
            self.refused = new
            mended = {name: content for name, content in fresh.items() if name not in _files_of(new)}
            kept = {name: content for name, content in old.items() if name in _files_of(new)}
            draft = self._draft({**mended, **kept}, self.current.stored, self.current.overrides)
            if self._new_errors(draft):
                return
        else:
            self.refused = ()
        self._accept(draft)

    def propose(self, put: Iterable[RawObject], remove: Iterable[ObjectKey] = ()) -> Draft:
        """The configuration with stored objects changed, not yet in force. Raises `ConfigurationRefused`."""
        return Rehearsal(self.current, self._compiler, self.placements.placed()).propose(put, remove)

    def rehearsal(self) -> Rehearsal:
        """The same for what is not to be committed: the compiler does not remember what is proposed there."""
        return Rehearsal(self.current, self._compiler.copy(), tuple(self.placements.placed()))

    def commit(self, draft: Draft, note: Callable[[int], None]) -> int:
        """Puts a proposed configuration in force, durably together with what ``note`` records; returns its revision.

        Raises `UnwritableError` or OSError when the disk does not take it: then nothing was changed.
        """
        self._accept(draft, note)
        return self.accepted.revision

    def federate(self, domains: Iterable[str]) -> None:
        """Lets members of these other trust domains be known, by the roots that proxies are given for them."""
        settings = replace(self._compiler.settings, federated_domains=tuple(sorted(domains)))
        if settings == self._compiler.settings:
            return
        self._compiler.settings = settings
        if self._current is not None:
            current = self._current
            compiled = self._compiler.compile(current.compiled.objects, self.placements.placed())
            self._current = Draft(current.files, current.stored, current.overrides, compiled, current.findings)
            self.changed(compiled)

    def placements_changed(self) -> None:
        """The fast path: other placements, the same objects."""
        current = self.current
        compiled = replace_placements(current.compiled, self.placements.placed())
        self._current = Draft(current.files, current.stored, current.overrides, compiled, current.findings)
        self.changed(compiled)

    def _draft(
        self, files: Mapping[str, FileContent], stored: Objects, overrides: Mapping[ObjectKey, str]
    ) -> Draft:
        return _drafted(files, stored, overrides, self._compiler, self.placements.placed())

    def _new_errors(self, draft: Draft) -> tuple[Diagnostic, ...]:
        return unknown(draft.errors, self.current.errors)

    def _stored(self) -> Objects:
        return {obj.key: obj for obj in self.store.objects()}

    def _save(self, wanted: Objects) -> None:
        """Makes the store hold exactly ``wanted``; inside a transaction."""
        kept = self._stored()
        gone = [key for key in kept if key not in wanted]
        if gone:
            self.store.delete(gone)
        changed = [obj for key, obj in wanted.items() if kept.get(key) != obj]
        if changed:
            self.store.apply(changed)

    def _accept(self, draft: Draft, note: Callable[[int], None] = lambda revision: None) -> None:
        """All of it or nothing: the store's objects, what ``note`` records of the new revision, the accepted files."""
        files = {name: content.objects for name, content in draft.files.items()}
        with self.store.together():
            self._save(draft.stored)
            prepared = self.accepted.prepare(
                draft.compiled.objects, files, draft.overrides, self.store.revision
            )
            note(prepared.revision)
        self.accepted = prepared.take()
        self._compiler.keep(draft.compiled.objects)
        self._current = draft
        self.changed(draft.compiled)


def _drafted(
    files: Mapping[str, FileContent],
    stored: Objects,
    overrides: Mapping[ObjectKey, str],
    compiler: Compiler,
    placed: Iterable[Placed],
) -> Draft:
    """Compiles files and stored objects together; of an object that is in both, the later change counts."""
    merged, findings = merge_files(files)
    valid = {
        key: obj
        for key, obj in stored.items()
        if key not in merged or overrides.get(key) == fingerprint(merged[key].body)
    }
    kept = {key: mark for key, mark in overrides.items() if key in valid}
    compiled = compiler.compile({**merged, **valid}, placed)
    return Draft(files, valid, kept, compiled, tuple(findings))


def unknown(found: Iterable[Diagnostic], known: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Those findings that were not there before."""
    before = {_identity(each) for each in known}
    return tuple(each for each in found if _identity(each) not in before)


def _identity(found: Diagnostic) -> tuple[str, str, str, str | None]:
    """What makes a finding the same one after lines have moved."""
    return (found.code, found.message, found.source.file, found.field)


def _files_of(findings: Iterable[Diagnostic]) -> set[str]:
    return {place.file for found in findings for place in (found.source, *found.related)}
