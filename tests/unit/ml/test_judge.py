"""The child around the reader: each test costs the start of an interpreter or two."""

import logging
import os
import time
from pathlib import Path

import pytest

from tests import estimators
from tests.estimators import dump, dumped
from tests.unit.ml import hostile
from webapp.errors import ModelRejectedError, ServiceUnavailableError
from webapp.ml.loading import judge, parent
from webapp.ml.passport import Passport


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    return tmp_path / "upload"


def test_a_model_gets_its_passport(upload: Path) -> None:
    upload.write_bytes(dumped(estimators.wine_columns))
    passport = judge(upload, max_features=100)
    assert passport.estimator == "sklearn.pipeline.Pipeline"
    assert passport.steps == [
        "sklearn.compose.ColumnTransformer",
        "sklearn.linear_model.LogisticRegression",
    ]
    assert passport.feature_names_in_ == ["alcohol", "malic_acid", "colour"]
    assert passport.feature_kinds == ["number", "number", "category"]
    assert passport.bytes == upload.stat().st_size
    assert Passport.from_dict(passport.to_dict()) == passport


def test_a_hostile_file_is_refused_and_does_nothing(upload: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pwned"
    upload.write_bytes(hostile.forbidden_names(marker)["a shell command"][0])
    with pytest.raises(ModelRejectedError) as caught:
        judge(upload, max_features=100)
    assert caught.value.details == {"reason": "global_not_allowed", "global": "posix.system"}
    assert not marker.exists()


def test_an_array_larger_than_the_memory_allowed_is_refused(upload: Path) -> None:
    # The claimed size alone: there are no bytes behind it.
    data = dump(estimators.diabetes_ridge())
    shape = hostile.text("shape").replace(b"X\x05\0\0\0", b"\x8c\x05") + b"\x94K\x0a\x85"
    assert data.count(shape) == 1
    huge = shape[:-3] + b"\x8a\x05\0\0\0\0\x01\x85"  # 2**32 numbers
    upload.write_bytes(data.replace(shape, huge))
    with pytest.raises(ModelRejectedError) as caught:
        judge(upload, max_features=100)
    assert caught.value.details["reason"] == "limits"


def test_a_crash_while_loading_is_a_refusal(upload: Path) -> None:
    upload.write_bytes(hostile.inside_an_estimator(hostile.Call(os.abort)))
    with pytest.raises(ModelRejectedError, match="crashes") as caught:
        judge(upload, max_features=100, trusted=("posix.abort",))
    assert caught.value.details["reason"] == "invalid_file"


def test_a_file_that_never_ends_loading_is_killed(
    upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "WALL_SECONDS", 8)
    upload.write_bytes(hostile.inside_an_estimator(hostile.Call(time.sleep, 600)))
    with pytest.raises(ModelRejectedError) as caught:
        judge(upload, max_features=100, trusted=("time.sleep",))
    assert caught.value.details["reason"] == "limits"


def test_the_child_sees_no_secret_and_cannot_write_files(
    upload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_JWT_SECRET_KEY", "s" * 32)
    # What code in the child could do, if there ever were some.
    spy = tmp_path / "spy"
    spy.mkdir()
    (spy / "spying.py").write_text(
        "import os, errno\n"
        "def look():\n"
        "    assert not [name for name in os.environ if name.startswith('PELLUCID')]\n"
        f"    with open({str(tmp_path / 'pwned')!r}, 'w') as file:\n"
        "        file.write('x')\n"
    )
    monkeypatch.syspath_prepend(str(spy))
    from_spy = hostile.stream(hostile.name("spying", "look"), b")R")
    upload.write_bytes(from_spy)
    with pytest.raises(ModelRejectedError, match="damaged"):
        judge(upload, max_features=100, trusted=("spying.look",))
    assert (tmp_path / "pwned").read_text() == ""


def test_a_child_that_cannot_start_is_our_fault_and_logged(
    upload: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upload.write_bytes(b"")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho No module named webapp >&2\nexit 1\n")
    broken.chmod(0o700)
    for executable in (broken, tmp_path / "missing"):
        monkeypatch.setattr("sys.executable", str(executable))
        with caplog.at_level(logging.ERROR), pytest.raises(ServiceUnavailableError):
            judge(upload, max_features=100)
    assert "No module named webapp" in caplog.text
    assert "cannot start" in caplog.text


def test_a_third_upload_at_once_waits_and_then_is_told_to_come_back(
    upload: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "_QUEUE_SECONDS", 0.05)
    upload.write_bytes(b"")
    with parent._slots, parent._slots, pytest.raises(ServiceUnavailableError) as caught:
        judge(upload, max_features=100)
    assert caught.value.retry_after_seconds is not None
