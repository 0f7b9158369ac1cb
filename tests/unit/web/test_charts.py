"""Figures over time, complete and cut to the window."""

from datetime import UTC, datetime, timedelta

from webapp.logstore.files import Window
from webapp.logstore.rows import Count, SeriesPoint
from webapp.web.pages import charts
from webapp.web.pages.span import Span

BEGIN = datetime(2026, 11, 24, 10, 0, 15, tzinfo=UTC)
END = BEGIN + timedelta(minutes=15)


def span() -> Span:
    return Span("15m", None, BEGIN, END, Window(BEGIN))


def test_every_step_of_the_window_is_there_also_without_requests() -> None:
    first = int(BEGIN.timestamp()) - 5
    point = SeriesPoint(first + 10, 20, 5, 0.1, 0.2, 0.3)
    requests, errors, durations = charts.overview_charts(span(), [point])
    assert requests.starts == list(range(first, int(END.timestamp()), 10))
    assert requests.lines[0].values[:3] == [0.0, 2.0, 0.0]
    assert errors.lines[0].values[:3] == [None, 0.25, None]
    assert [line.values[1] for line in durations.lines] == [0.1, 0.2, 0.3]
    assert durations.top == 0.3


def test_a_step_that_is_cut_counts_its_own_seconds_only() -> None:
    first = int(BEGIN.timestamp()) - 5
    (requests, *_) = charts.overview_charts(span(), [SeriesPoint(first, 10, 0, 1, 1, 1)])
    assert requests.lines[0].values[0] == 2.0


def test_a_path_breaks_where_there_is_no_value() -> None:
    assert charts.path([0, 1, None, 1], 30, 12, 1) == "M0.0 11.0L10.0 1.0M30.0 1.0h1"
    assert charts.path([], 30, 12, 0) == ""
    assert charts.path([0, 0], 30, 12, 0) == "M0.0 11.0L30.0 11.0"


def test_sparklines_are_drawn_by_name() -> None:
    start = int(BEGIN.timestamp()) - 5
    drawn = charts.sparklines(span(), [Count(start, "a", 2), Count(start + 10, "b", 1)])
    assert set(drawn) == {"a", "b"}
    assert drawn["a"].startswith("M0.0 1.0L")
    assert charts.sparklines(span(), [Count(0, "elsewhere", 1)]) == {}


def test_durations_are_drawn_by_their_order_of_magnitude() -> None:
    point = SeriesPoint(int(BEGIN.timestamp()) - 5, 1, 0, 0.001, 0.1, 10.0)
    durations = charts.overview_charts(span(), [point])[2]
    heights = [float(path.split()[1].partition("h")[0]) for _, path in durations.paths]
    assert heights == [95.4, 48.2, 1.0]
