"""Settings: where they come from, and what a wrong one says."""

import stat
from pathlib import Path
from typing import Any

import pytest

from webapp import settings
from webapp.settings import SettingError, load

KEY = "a-key-of-more-than-thirty-two-bytes!"


def _load(tmp_path: Path, **variables: str) -> settings.Settings:
    environ = {f"PELLUCID_{name}": value for name, value in variables.items()}
    return load({"PELLUCID_INSTANCE_PATH": str(tmp_path), **environ})


def test_defaults_hold_where_nothing_is_said(tmp_path: Path) -> None:
    loaded = _load(tmp_path)
    assert loaded.bind == "127.0.0.1:8000"
    assert loaded.log_segment_bytes == 64 * 2**20
    assert loaded.database_url == f"sqlite:///{tmp_path}/pellucid.db"
    assert loaded.workers >= 1
    assert loaded.refresh_token_seconds == 30 * 86_400


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        'threads = 2\nlog_level = "debug"\nallowed_hosts = ["a.example", "b.example"]\n'
    )
    loaded = _load(tmp_path, THREADS="3")
    assert loaded.threads == 3
    assert loaded.log_level == "DEBUG"
    assert loaded.allowed_hosts == ("a.example", "b.example")


def test_a_secret_can_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert _load(tmp_path, JWT_SECRET_KEY_FILE=str(tmp_path / "key")).jwt_secret_key == KEY


def test_a_generated_key_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    first = _load(tmp_path / "new").jwt_secret_key
    assert len(first) >= 32
    assert _load(tmp_path / "new").jwt_secret_key == first
    mode = (tmp_path / "new" / "jwt_secret_key").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_postgresql_urls_name_the_driver_that_is_installed(tmp_path: Path) -> None:
    loaded = _load(tmp_path, DATABASE_URL="postgres://u@h/d")
    assert loaded.database_url == "postgresql+psycopg://u@h/d"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("WORKERS", "0", "a whole number of at least 1, not '0'"),
        ("WORKERS", "two", "a whole number of at least 1, not 'two'"),
        ("BIND", "8000", "HOST:PORT"),
        ("BIND", "localhost:99999", "HOST:PORT"),
        ("LOG_SEGMENT_BYTES", "64 MB", "64 MiB"),
        ("SLOW_QUERY_SECONDS", "-1", "a number of seconds"),
        ("SLOW_QUERY_SECONDS", "nan", "a number of seconds"),
        ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO"),
        ("REGISTRATION", "maybe", "one of open, closed"),
        ("DATABASE_URL", "mysql://root:hunter2@h/d", "begins with sqlite:"),
        ("JWT_SECRET_KEY", "hunter2", "at least 32 bytes"),
        ("SKLEARN_VERSIONS", "1.7.2", "minor versions, for example 1.7, 1.8, not '1.7.2'"),
        ("SKLEARN_VERSIONS", "1.7, 1.x", "minor versions"),
        ("SKLEARN_VERSIONS", "1.07", "minor versions"),
        ("SKLEARN_VERSIONS", "1.7 1.8", "minor versions"),
        ("WORKRES", "2", "did you mean PELLUCID_WORKERS?"),
        ("JWT_SECRET_KEY_FILE", "/nowhere/key", "cannot read"),
    ],
)
def test_a_wrong_value_is_named_and_a_secret_is_not_repeated(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    with pytest.raises(SettingError) as raised:
        _load(tmp_path, **{name: value})
    message = str(raised.value)
    assert f"PELLUCID_{name}" in message
    assert expected in message
    assert "\n" not in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('"1.7, 1.10"', ("1.7", "1.10")),
        ('["1.7", "1.10"]', ("1.7", "1.10")),
        ("[1.7, 1.10]", ("1.7", "1.10")),
        ("1.10", ("1.10",)),
        ('""', ()),
    ],
)
def test_versions_are_read_as_they_are_written(
    tmp_path: Path, content: str, expected: tuple[str, ...]
) -> None:
    (tmp_path / "settings.toml").write_text(f"sklearn_versions = {content}")
    assert _load(tmp_path).sklearn_versions == expected


@pytest.mark.parametrize("content", ["threads = ", "colour = 1", "threads = 'x'"])
def test_a_wrong_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.toml").write_text(content)
    with pytest.raises(SettingError):
        _load(tmp_path)


def test_secrets_are_not_shown_with_the_settings(tmp_path: Path) -> None:
    shown = repr(_load(tmp_path, JWT_SECRET_KEY=KEY, METRICS_TOKEN="scrape-me"))
    assert KEY not in shown
    assert "scrape-me" not in shown


def test_the_variables_of_kubernetes_are_not_ours(tmp_path: Path) -> None:
    assert _load(tmp_path, SERVICE_HOST="10.0.0.1", PORT_8000_TCP="tcp://10.0.0.1:8000")


def test_secrets_leave_the_environment() -> None:
    environ = {"PELLUCID_JWT_SECRET_KEY": KEY, "PELLUCID_WORKERS": "2"}
    settings.forget_secrets(environ)
    assert environ == {"PELLUCID_WORKERS": "2"}


def test_the_log_folder_is_found_when_other_settings_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"PELLUCID_WORKERS": "many", "PELLUCID_LOG_DIR": str(tmp_path)}
    assert settings.find_log_dir(environ) == tmp_path
    (tmp_path / "settings.toml").write_text("broken = ")
    found: Any = settings.find_log_dir({"PELLUCID_INSTANCE_PATH": str(tmp_path)})
    assert found.name == "logs"
    assert "settings.toml" in capsys.readouterr().err
