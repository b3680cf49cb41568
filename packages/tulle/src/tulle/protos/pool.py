"""The private descriptor pool: finds a message's file, adds it with its imports, hands out the class."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files as package_files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool


class UnknownMessageError(LookupError):
    """No message of that full name is in the descriptors."""

    def __init__(self, full_name: str) -> None:
        super().__init__(f"no protobuf message {full_name!r}")
        self.full_name = full_name


class _Registry:
    """All known files by name, of which some are in the pool already."""

    def __init__(self, known: Sequence[FileDescriptorProto]) -> None:
        from google.protobuf.descriptor_pool import DescriptorPool

        self.pool = DescriptorPool()
        self._files = {proto.name: proto for proto in known}
        self._file_of = {name: proto.name for proto in known for name in _message_names(proto)}
        self._added: set[str] = set()

    def cls(self, full_name: str) -> Any:
        from google.protobuf.message_factory import GetMessageClass

        if full_name not in self._file_of:
            raise UnknownMessageError(full_name)
        self._add(self._file_of[full_name])
        return GetMessageClass(self.pool.FindMessageTypeByName(full_name))

    def add_all(self) -> DescriptorPool:
        for name in self._files:
            self._add(name)
        return self.pool

    def _add(self, name: str) -> None:
        if name in self._added:
            return
        proto = self._files[name]
        for dependency in proto.dependency:
            self._add(dependency)
        self.pool.AddSerializedFile(proto.SerializeToString())
        self._added.add(name)


def _message_names(proto: FileDescriptorProto) -> Iterator[str]:
    def walk(prefix: str, messages: Sequence[DescriptorProto]) -> Iterator[str]:
        for declared in messages:
            name = f"{prefix}.{declared.name}"
            yield name
            yield from walk(name, declared.nested_type)

    return (name.removeprefix(".") for name in walk(proto.package, proto.message_type))


@cache
def _registry() -> _Registry:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    from tulle.protos.filter_chain import filter_chain_file
    from tulle.protos.istio_ca import istio_ca_file
    from tulle.protos.spiffe import spiffe_file

    data = package_files("tulle.protos").joinpath("xds.binpb.z").read_bytes()
    known = FileDescriptorSet.FromString(zlib.decompress(data)).file
    return _Registry([*known, filter_chain_file(), istio_ca_file(), spiffe_file()])


@cache
def message(full_name: str) -> Any:
    """The class of a message, for example `message("envoy.config.cluster.v3.Cluster")`.

    The result is typed `Any` because the classes are made at run time. Raises `UnknownMessageError`.
    """
    return _registry().cls(full_name)


def message_for_url(url: str) -> Any:
    """The class that an `Any.type_url` names (what follows the last slash). Raises `UnknownMessageError`."""
    return message(url.rpartition("/")[2])


def pool() -> DescriptorPool:
    """The pool with every known file in it, for JSON, where an `Any` may hold any type."""
    return _complete()


@cache
def _complete() -> DescriptorPool:
    return _registry().add_all()
