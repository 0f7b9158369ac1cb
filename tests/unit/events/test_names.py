"""A file that lost its name is noticed at once."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from webapp.events import names
from webapp.events.names import WatchedName

Change = Callable[[Path], object]


def refuse(**options: object) -> None:
    """Be a kernel that has no watch left."""
    raise OSError


@pytest.fixture(params=["noted by the kernel", "looked up"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a file in a folder of its own."""
    if request.param == "looked up":
        monkeypatch.setattr(names, "INotify", refuse)
    else:
        monkeypatch.setattr(names, "_LOOK_SECONDS", float("inf"))
    folder = tmp_path / "above" / "logs"
    folder.mkdir(parents=True)
    return folder / "app.log"


@pytest.fixture
def name(path: Path) -> Iterator[WatchedName]:
    """Its name, found to be kept already."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    name = WatchedName(fd, str(path))
    assert name.is_kept()
    yield name
    name.close()
    os.close(fd)


def put_another_over(path: Path) -> None:
    """Replace the file by a new one."""
    path.with_name("new").write_bytes(b"")
    path.with_name("new").rename(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.rename(path.with_name("app.log.1")),
        Path.unlink,
        put_another_over,
        lambda path: shutil.rmtree(path.parent),
        lambda path: path.parent.rename(path.parents[1] / "elsewhere"),
    ],
    ids=["renamed", "removed", "replaced", "folder removed", "folder renamed"],
)
def test_a_lost_name_is_noticed(path: Path, name: WatchedName, change: Change) -> None:
    change(path)
    assert not name.is_kept()


def test_what_else_happens_to_a_file_is_no_loss(path: Path, name: WatchedName) -> None:
    path.write_bytes(b"a line\n")
    path.chmod(0o600)
    path.with_name("other").write_bytes(b"")
    path.with_name("other").rename(path.with_name("app-1.jsonl"))
    assert name.is_kept()


def test_a_name_that_comes_back_counts_as_kept(path: Path, name: WatchedName) -> None:
    path.rename(path.with_name("app.log.1"))
    path.with_name("app.log.1").rename(path)
    assert name.is_kept()
    path.unlink()
    assert not name.is_kept()


def test_a_move_far_above_is_found_in_time(
    path: Path, name: WatchedName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_LOOK_SECONDS", 0.0)
    path.parents[1].rename(path.parents[2] / "elsewhere")
    assert not name.is_kept()
