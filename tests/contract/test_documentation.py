"""The README says what the program does."""

from importlib.metadata import version

from tests.contract.documentation import README, TABLES, with_tables


def test_the_tables_of_settings_and_events_are_current() -> None:
    text = README.read_text()
    for name in TABLES:
        assert f"<!-- {name} -->" in text
    # To mend it: python -m tests.contract.documentation
    assert with_tables(text) == text


def test_the_scikit_learn_that_models_are_from_is_the_one_installed() -> None:
    minor, _, _ = version("scikit-learn").rpartition(".")
    assert f"The models are those of scikit-learn {minor}," in README.read_text()
