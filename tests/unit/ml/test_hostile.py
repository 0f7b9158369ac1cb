"""Every hostile file, judged as an upload is: refused for the right reason, and nothing happens."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.ml import hostile
from tests.unit.ml.tampered import tampered_models
from webapp.errors import ModelRejectedError
from webapp.ml.loading import judge, load_estimator

KINDS: dict[str, Callable[[Path], hostile.Attacks]] = {
    "forbidden names": lambda marker: {
        attack: (data, "global_not_allowed")
        for attack, (data, _) in hostile.forbidden_names(marker).items()
    },
    "abuses of allowed names": hostile.machine_abuses,
    "operations": lambda _: hostile.opcodes(),
    "arrays": lambda _: hostile.arrays(),
    "bombs": lambda _: hostile.bombs(),
    "unsafe parameters": lambda _: hostile.unsafe_parameters(),
    "damaged files": lambda _: hostile.damaged_files(),
    "tampered models": lambda _: tampered_models(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_files_are_refused_for_the_right_reason(kind: str, tmp_path: Path) -> None:
    marker, upload = tmp_path / "pwned", tmp_path / "upload"
    wrong = {}
    for attack, (data, expected) in KINDS[kind](marker).items():
        upload.write_bytes(data)
        try:
            judge(upload, max_features=100)
            reason = "accepted"
        except ModelRejectedError as error:
            reason = error.details["reason"] if error.message.isprintable() else "unprintable"
        assert not marker.exists(), attack
        if reason != expected:
            wrong[attack] = reason, expected
    assert wrong == {}


@pytest.mark.parametrize("attack", hostile.forbidden_names(Path("marker")))
def test_a_name_outside_the_policy_is_told(attack: str, tmp_path: Path) -> None:
    data, forbidden = hostile.forbidden_names(tmp_path / "pwned")[attack]
    with pytest.raises(ModelRejectedError) as caught:
        load_estimator(data)
    assert caught.value.details["global"] == forbidden[:80]
    assert forbidden[:80] in caught.value.message
