"""The stretch of time of a page, however long it is."""

from datetime import UTC, datetime, timedelta

import pytest

from webapp.logstore.files import Window
from webapp.web.pages.charts import Steps
from webapp.web.pages.span import Span

END = datetime(2026, 11, 24, 10, 0, 15, tzinfo=UTC)
YEAR = timedelta(days=365)


@pytest.mark.parametrize(
    "length",
    [timedelta(minutes=15), timedelta(days=119), timedelta(days=121), 9 * YEAR, 2000 * YEAR],
)
def test_a_window_of_any_length_has_at_most_121_steps(length: timedelta) -> None:
    begin = END - length
    steps = Steps(Span("", None, begin, END, Window(begin)))
    assert 60 <= len(steps.starts) <= 121
    assert steps.starts[0] <= begin.timestamp()
    assert steps.starts[-1] + steps.span.step_seconds >= END.timestamp()
