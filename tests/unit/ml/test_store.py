import errno
import hashlib
import io
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from webapp.errors import ModelLoadError, StorageFullError
from webapp.ml.store import Incoming, ModelStore

DATA = b"a model, or so it says" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()


class TrackedStore(ModelStore):
    """A store that can close what a test left open."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.received: list[Incoming] = []

    def receive(self) -> Incoming:
        self.received.append(super().receive())
        return self.received[-1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ModelStore]:
    store = TrackedStore(tmp_path / "models")
    yield store
    for incoming in store.received:
        incoming.close()


def receive(store: ModelStore, data: bytes = DATA) -> Incoming:
    incoming = store.receive()
    incoming.write(data)
    return incoming


def files(store: ModelStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_an_upload_is_kept_under_its_digest_and_read_back(store: ModelStore) -> None:
    incoming = store.receive()
    for start in range(0, len(DATA), 999):
        incoming.write(DATA[start : start + 999])
    assert (incoming.bytes, incoming.digest) == (len(DATA), DIGEST)
    assert incoming.keep() == DIGEST
    assert store.read(DIGEST) == DATA
    assert files(store) == [store.root / DIGEST[:2] / f"{DIGEST}.joblib"]


def test_a_form_parser_can_go_back_and_read_what_it_wrote(store: ModelStore) -> None:
    incoming = receive(store)
    incoming.flush()
    incoming.seek(0)
    assert incoming.read(7) == DATA[:7]
    assert incoming.tell() == 7
    incoming.seek(0)
    assert incoming.read() == DATA


def test_writing_over_what_was_hashed_is_refused(store: ModelStore) -> None:
    incoming = receive(store)
    incoming.seek(0)
    with pytest.raises(io.UnsupportedOperation):
        incoming.write(b"other")


def test_an_upload_can_be_kept_after_it_was_closed(store: ModelStore) -> None:
    incoming = receive(store)
    incoming.close()
    assert store.read(incoming.keep()) == DATA


def test_only_the_owner_of_the_process_can_read_an_upload(store: ModelStore) -> None:
    incoming = receive(store)
    assert stat.S_IMODE(incoming.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.incoming.stat().st_mode) == 0o700


def test_an_upload_never_opens_a_file_that_is_there_already(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.ml.store.secrets.token_hex", lambda _length: "same")
    receive(store)
    with pytest.raises(FileExistsError):
        store.receive()


def test_the_same_bytes_twice_are_stored_once(store: ModelStore) -> None:
    assert receive(store).keep() == receive(store).keep()
    assert len(files(store)) == 1


def test_a_discarded_upload_leaves_nothing(store: ModelStore) -> None:
    incoming = receive(store)
    incoming.discard()
    incoming.discard()
    assert files(store) == []


def test_discarding_after_keeping_does_not_remove_the_model(store: ModelStore) -> None:
    incoming = receive(store)
    digest = incoming.keep()
    incoming.discard()
    assert store.read(digest) == DATA


def test_the_bytes_reach_the_disk_before_the_name_does(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        calls.append("file" if Path(name).parent == store.incoming else Path(name).name)
        real_fsync(descriptor)

    def replace(path: Path, target: Path) -> Path:
        calls.append("rename")
        return real_replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    receive(store).keep()
    assert calls == ["file", "rename", DIGEST[:2], "models"]


def test_a_full_disk_is_a_storage_error(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = receive(store)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError) as caught:
        incoming.keep()
    assert str(store.root) not in caught.value.message
    incoming.discard()
    assert files(store) == []


def test_a_file_size_limit_is_a_storage_error(store: ModelStore) -> None:
    incoming = store.receive()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageFullError):
            incoming.write(DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        incoming.discard()


def test_a_changed_file_is_not_read(store: ModelStore) -> None:
    digest = receive(store).keep()
    store.path(digest).write_bytes(DATA + b"!")
    with pytest.raises(ModelLoadError) as caught:
        store.read(digest)
    assert str(store.root) not in caught.value.message


def test_a_missing_or_unreadable_file_is_a_load_error(store: ModelStore) -> None:
    with pytest.raises(ModelLoadError, match="missing"):
        store.read(DIGEST)
    store.path(DIGEST).mkdir(parents=True)
    with pytest.raises(ModelLoadError, match="cannot be read"):
        store.read(DIGEST)


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", DIGEST.upper(), DIGEST + "0"])
def test_what_is_no_digest_names_no_file(store: ModelStore, digest: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        store.path(digest)


def test_a_deleted_model_is_gone_and_can_be_deleted_again(store: ModelStore) -> None:
    digest = receive(store).keep()
    store.delete(digest)
    store.delete(digest)
    assert files(store) == []


def test_sweeping_removes_old_uploads_only(store: ModelStore) -> None:
    assert store.sweep() == 0
    kept = receive(store, b"kept").keep()
    old, new = receive(store), receive(store)
    os.utime(old.path, (0, 0))
    assert store.sweep(older_than_seconds=3600) == 1
    assert set(files(store)) == {new.path, store.path(kept)}
