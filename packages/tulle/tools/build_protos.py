"""Makes `tulle/protos/xds.binpb.z`, the descriptors of Envoy's v3 API, from the pinned `xds-protos` wheel.

The wheel is downloaded and read as an archive; it is never installed or imported, because installing it next
to `opentelemetry-proto` overwrites that package's files. The serialized descriptors are literals in the
generated modules, so they are read with `ast` and nothing of the wheel is executed.

    python packages/tulle/tools/build_protos.py            rewrites the file
    python packages/tulle/tools/build_protos.py --check    exits 1 when the committed file differs
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "src" / "tulle" / "protos" / "xds.binpb.z"
REQUIREMENT = HERE / "xds-protos.txt"

# The roots: every v3 file of Envoy's API and the typed structures that Envoy configuration may hold.
ROOT_PREFIXES = ("envoy/", "xds/type/", "xds/data/", "udpa/type/v1/")

# Imported only for the custom options they define. Options are dropped, so these imports are too.
OPTION_ONLY = (
    "validate/",
    "udpa/annotations/",
    "xds/annotations/",
    "envoy/annotations/",
    "google/api/annotations",
)

WELL_KNOWN = (any_pb2, duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)

Files = dict[str, descriptor_pb2.FileDescriptorProto]


def download(directory: Path) -> Path:
    """The pinned wheel, hash-checked by pip, in `directory`. Raises CalledProcessError without it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*command, "-r", str(REQUIREMENT), "-d", str(directory)], check=True)
    return next(directory.glob("*.whl"))


def read_wheel(wheel: Path) -> Files:
    """Every file descriptor in the wheel, by proto file name, with unknown (custom) options removed."""
    marker = "AddSerializedFile("
    files: Files = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.endswith("_pb2.py"):
                continue
            line = next(line for line in archive.read(name).decode().splitlines() if marker in line)
            literal = line[line.index(marker) + len(marker) : line.rindex(")")]
            proto = descriptor_pb2.FileDescriptorProto.FromString(ast.literal_eval(literal))
            files[proto.name] = strip(proto)
    for module in WELL_KNOWN:
        proto = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        files[proto.name] = strip(proto)
    return files


def strip(proto: descriptor_pb2.FileDescriptorProto) -> descriptor_pb2.FileDescriptorProto:
    """Drops custom options and the imports that exist only for them."""
    # The option extensions are not linked into this process, so they are unknown fields here.
    proto.DiscardUnknownFields()
    kept = [name for name in proto.dependency if not name.startswith(OPTION_ONLY)]
    del proto.dependency[:]
    del proto.public_dependency[:]
    del proto.weak_dependency[:]
    proto.dependency.extend(kept)
    return proto


def is_root(name: str) -> bool:
    in_v3 = not name.startswith("envoy/") or "v3" in name.split("/")
    return name.startswith(ROOT_PREFIXES) and in_v3


def closure(files: Files) -> list[descriptor_pb2.FileDescriptorProto]:
    """The roots and all they import, imports first, otherwise by name: one order for one wheel."""
    ordered: Files = {}

    def visit(name: str) -> None:
        if name in ordered or name == "google/protobuf/descriptor.proto":
            return
        for dependency in files[name].dependency:
            visit(dependency)
        ordered[name] = files[name]

    for name in sorted(filter(is_root, files)):
        visit(name)
    for module in WELL_KNOWN:
        visit(module.DESCRIPTOR.name)
    return list(ordered.values())


def build() -> bytes:
    """The serialized FileDescriptorSet, uncompressed."""
    with tempfile.TemporaryDirectory() as directory:
        files = read_wheel(download(Path(directory)))
    return descriptor_pb2.FileDescriptorSet(file=closure(files)).SerializeToString(deterministic=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare with the committed file")
    made = build() if parser.parse_args().check is False else None
    if made is not None:
        TARGET.write_bytes(zlib.compress(made, 9))
        return 0
    # Compressed bytes may differ between versions of zlib; what they hold may not.
    same = TARGET.exists() and zlib.decompress(TARGET.read_bytes()) == build()
    print("up to date" if same else f"{TARGET.name} differs: run {Path(__file__).name}", file=sys.stderr)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
