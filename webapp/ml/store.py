"""The files of uploaded models, kept under the SHA-256 of their bytes."""

import errno
import fcntl
import hashlib
import io
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from webapp.errors import (
    OUT_OF_DESCRIPTORS,
    ModelLoadError,
    ServiceUnavailableError,
    StorageFullError,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SUFFIX: Final = ".joblib"
GRAPH_SUFFIX: Final = ".onnx"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RETRY_SECONDS: Final = 2
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Incoming(io.FileIO):
    """An upload on its way in: a new private file that hashes and counts what is written."""

    def __init__(self, store: "ModelStore") -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self.bytes = 0
        self.path = store.incoming / secrets.token_hex(16)
        # "x": a file that somebody else put there is never opened.
        super().__init__(self.path, "x+", opener=_open_private)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the bytes written so far."""
        return self._hash.hexdigest()

    def write(self, data: "ReadableBuffer", /) -> int:
        """Append all of the data; a raw file may write less than it was given."""
        view = memoryview(data).cast("B")
        if self.tell() != self.bytes:
            raise io.UnsupportedOperation("an upload is written once, from start to end")
        with _full_is_storage_error():
            while view.nbytes:
                written = super().write(view)
                self._hash.update(view[:written])
                self.bytes += written
                view = view[written:]
        return memoryview(data).nbytes

    def keep(self) -> str:
        """Make the upload a stored model that survives a crash; return its digest."""
        digest = self.digest
        with _full_is_storage_error():
            _fsync(self.path)
            self._store.adopt(self.path, self._store.path(digest))
        self.close()
        return digest

    def discard(self) -> None:
        """Remove the upload unless it was kept."""
        self.close()
        self.path.unlink(missing_ok=True)


class ModelStore:
    """A folder of immutable model files: ``ab/abcd….joblib``.

    What a model was compiled to stands beside it: ``ab/abcd…-<SHA-256 of the graph>.onnx``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / "incoming"

    def receive(self) -> Incoming:
        """Open a new private file for an upload."""
        with _full_is_storage_error():
            self.incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Incoming(self)

    def path(self, digest: str) -> Path:
        """Name the file of a stored model."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError("a digest is 64 hexadecimal digits in lower case")
        return self.root / digest[:2] / f"{digest}{SUFFIX}"

    def read(self, digest: str) -> bytes:
        """Read a stored model once, and check the hash of the very bytes returned.

        Raises
        ------
        ModelLoadError : the file is missing, unreadable or not what was stored
        """
        return _read(self.path(digest), digest)

    def keep_graph(self, digest: str, graph: bytes) -> str:
        """Store what a model was compiled to; return the digest of that."""
        incoming = self.receive()
        try:
            incoming.write(graph)
            with _full_is_storage_error():
                _fsync(incoming.path)
                self.adopt(incoming.path, self.graph_path(digest, incoming.digest))
            return incoming.digest
        finally:
            incoming.discard()

    def graph_path(self, digest: str, graph_digest: str) -> Path:
        """Name the file of what a stored model was compiled to."""
        return self.path(digest).with_name(f"{digest}-{graph_digest}{GRAPH_SUFFIX}")

    def read_graph(self, digest: str, graph_digest: str) -> bytes:
        """Read what a stored model was compiled to, and check its hash.

        Raises
        ------
        ModelLoadError : the file is missing, unreadable or not what was stored
        """
        return _read(self.graph_path(digest, graph_digest), graph_digest)

    def delete(self, digest: str) -> None:
        """Remove a stored model and what it was compiled to; one that is not there is fine."""
        path = self.path(digest)
        for graph in path.parent.glob(f"{digest}-*{GRAPH_SUFFIX}"):
            graph.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            path.unlink()
            _fsync(path.parent)

    def digests(self) -> set[str]:
        """List the stored models."""
        return {path.stem for path in self.root.glob(f"[0-9a-f][0-9a-f]/*{SUFFIX}")}

    def sweep(self, older_than_seconds: float = 3600) -> int:
        """Remove what uploads that never ended left behind; return how many files."""
        if not self.incoming.is_dir():
            return 0
        oldest = time.time() - older_than_seconds
        removed = 0
        for path in self.incoming.iterdir():
            # Another process may keep, discard or sweep the same file meanwhile.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime <= oldest:
                    path.unlink()
                    removed += 1
        return removed

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the store alone, over all processes, while files and the rows that name them change.

        Otherwise a deletion could remove the file that an upload of the same bytes relies on.
        """
        with self._locked(".lock"):
            yield

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Be the only process that compiles what is due; one that dies lets go.

        So one of the two children stays free for uploads.
        """
        with self._locked(".compiling"):
            yield

    def adopt(self, path: Path, target: Path) -> None:
        """Move a complete file into its place, and make the move durable."""
        target.parent.mkdir(mode=0o700, exist_ok=True)
        path.replace(target)
        _fsync(target.parent)
        _fsync(self.root)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.root / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelLoadError("the stored file of this model is missing") from error
    except OSError as error:
        if error.errno in OUT_OF_DESCRIPTORS:
            raise ServiceUnavailableError(
                "the stored file of this model cannot be read at this moment",
                retry_after_seconds=_RETRY_SECONDS,
            ) from error
        raise ModelLoadError("the stored file of this model cannot be read") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ModelLoadError("the stored file of this model is not the one that was stored")
    return data


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _full_is_storage_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError("there is no room left to store the upload") from error
        raise
