"""What every test may use: the program, its people, and its log."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import database
from tests.estimators import cancer_forest, diabetes_ridge, iris_pipeline
from tests.world import World, kept_logging

app_context = database.app_context
bare_app = database.bare_app
database_url = database.database_url
migrated_url = database.migrated_url
unmigrated_url = database.unmigrated_url


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know `--no-skips`, for a machine on which nothing may be absent."""
    parser.addoption("--no-skips", action="store_true", help="fail where a part is absent")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run whose tests were skipped, except those of the other database."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not session.config.getoption("no_skips"):
        return
    skipped = [report.longrepr[2] for report in reporter.getreports("skipped")]
    absent = [reason for reason in skipped if not reason.startswith("Skipped: only on ")]
    if absent and session.exitstatus == pytest.ExitCode.OK:
        reporter.ensure_newline()
        reporter.write_line(
            f"--no-skips: {len(absent)} skipped, for example: {absent[0]}", red=True
        )
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _kept_logging() -> Iterator[None]:
    """Restore the root logger, whatever a test did to it."""
    with kept_logging():
        yield


@pytest.fixture
def world(tmp_path: Path, database_url: str) -> Iterator[World]:
    """A fresh program without models; tests may break it."""
    made = World(tmp_path, database_url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def _shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with kept_logging(), database.migrated(tmp_path_factory.mktemp("shared-db")) as url:
        # All tests share it, and they may take longer than a token is to live.
        made = World(tmp_path_factory.mktemp("shared"), url, access_token_seconds=86_400)
        for name, estimator in {
            "iris": iris_pipeline(),
            "cancer": cancer_forest(),
            "diabetes": diabetes_ridge(),
        }.items():
            response = made.upload(name, estimator)
            assert response.status_code == 201, response.get_data(as_text=True)
        yield made
        made.close()


@pytest.fixture
def served(_shared_world: World) -> Iterator[World]:
    """A program that serves `iris`, `cancer` and `diabetes` of the owner's; not to be changed."""
    with _shared_world.logging():
        yield _shared_world
