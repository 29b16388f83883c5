"""What is sent to a cluster: this very package and one spec, as an archive that is the same for the same content."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import orchestrator
from orchestrator.errors import OrchestratorError

DISTRIBUTION = "distillation-orchestrator"
SPEC = "spec.yaml"
"""Name of the spec in the archive, and so in the job's working folder."""
LIMIT_BYTES = 50 * 2**20
"""Ray keeps what is sent in the memory of the head, and refuses what is above some hundred MiB."""


@dataclass(frozen=True)
class Package:
    """An archive for Ray's `working_dir`: its files lie at the top, so that Python imports the package from there."""

    content: bytes
    sizes: Mapping[str, int]
    """Bytes of each file, unpacked."""

    def __str__(self) -> str:
        return f"{_size(len(self.content))} of {len(self.sizes)} files; the largest: {self.largest()}"

    def largest(self, count: int = 3) -> str:
        """The largest files and their sizes, as text."""
        order = sorted(self.sizes, key=lambda name: (-self.sizes[name], name))
        return ", ".join(f"{name} {_size(self.sizes[name])}" for name in order[:count])


def build_package(spec: str | None = None, folder: Path | None = None, limit: int = LIMIT_BYTES) -> Package:
    """Pack the package that runs here, from a checkout or installed, and the text of a spec.

    Nothing else goes in: no hidden file or folder, no cache, nothing beside the package's own `folder`. Raises
    `OrchestratorError` that names the largest files where the archive is larger than `limit` bytes.
    """
    content = io.BytesIO()
    sizes = {}
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(_files(folder or Path(orchestrator.__file__).parent, spec)):
            # Without a time: Ray names what it keeps by a hash of the archive.
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
            sizes[name] = len(data)
    package = Package(content.getvalue(), sizes)
    if len(package.content) > limit:
        raise OrchestratorError(
            f"the package has {package}: more than the {_size(limit)} that are sent",
            hint="move what is no code out of the package's folder",
        )
    return package


def code_digest() -> str:
    """A hash of the package that runs here, to tell two that have one version apart."""
    digest = hashlib.sha256()
    for name, data in sorted(_code(Path(orchestrator.__file__).parent)):
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()[:12]


def _files(folder: Path, spec: str | None) -> Iterator[tuple[str, bytes]]:
    """The archive's files by name."""
    yield from _code(folder)
    if spec is not None:
        yield SPEC, spec.encode()
    try:
        installed = metadata.distribution(DISTRIBUTION)
        # In a checkout's own folder what is found first is the checkout's description.
        described = installed.read_text("METADATA") or installed.read_text("PKG-INFO")
    except metadata.PackageNotFoundError:
        described = None
    if described:
        # With it the version is known there, too, whatever is installed.
        name = f"{DISTRIBUTION.replace('-', '_')}-{orchestrator.__version__}.dist-info"
        yield f"{name}/METADATA", described.encode()


def _code(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        inner = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in inner.parts):
            yield f"{folder.name}/{inner.as_posix()}", path.read_bytes()


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
