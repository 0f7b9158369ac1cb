"""The README says what the program does."""

from tests.contract.documentation import README, TABLES, with_tables


def test_the_tables_of_settings_and_events_are_current() -> None:
    text = README.read_text()
    for name in TABLES:
        assert f"<!-- {name} -->" in text
    # To mend it: python -m tests.contract.documentation
    assert with_tables(text) == text
