"""The flight recorder: details of a request, written only when it failed or was slow."""

import logging
from collections.abc import Callable

import pytest

from tests.unit.events.conftest import Event, Log, finish
from webapp.events import canonical
from webapp.events.lines import FrequentLine
from webapp.events.recorder import FlightRecorder

Open = Callable[..., canonical.RequestEvent]
logger = logging.getLogger("a.library")


@pytest.fixture
def recorded(full_log: Log) -> Log:
    """A log at INFO with a flight recorder in front."""
    logging.getLogger().handlers[:] = [FlightRecorder("INFO", full_log.handler)]
    return full_log


def messages(log: Log) -> list[str]:
    """List what was written."""
    return [event["message"] for event in log.events()]


def test_details_of_a_request_that_ends_well_are_forgotten(recorded: Log, open_event: Open) -> None:
    event = open_event()
    logger.debug("detail")
    logger.info("fact")
    finish(event, 404)
    assert messages(recorded) == ["fact", "Request completed"]


@pytest.mark.parametrize(("status", "slow_seconds"), [(500, 1.0), (200, -1.0)])
def test_details_of_a_request_that_fails_or_is_slow_are_written(
    recorded: Log, open_event: Open, status: int, slow_seconds: float
) -> None:
    event = open_event(slow_seconds=slow_seconds)
    logger.debug("detail %d", 1)
    logger.info("fact")
    logger.debug("detail %d", 2)
    assert messages(recorded) == ["fact"]
    finish(event, status)
    assert messages(recorded)[:-1] == ["fact", "detail 1", "detail 2"]
    detail = recorded.events()[1]
    assert (detail["level"], detail["request_id"]) == ("DEBUG", "request-0001")
    assert detail["timestamp"] < recorded.events()[0]["timestamp"], "the time it was made"
    logger.debug("after the end")
    assert messages(recorded)[-1] == "after the end"


def test_details_outside_a_request_are_not_held(recorded: Log) -> None:
    logger.debug("detail")
    assert recorded.lines() == []


def test_the_last_details_are_held_and_no_more(recorded: Log, open_event: Open) -> None:
    event = open_event()
    for number in range(canonical.HELD_RECORDS + 50):
        logger.debug("detail %d", number)
    finish(event, 500)
    details = messages(recorded)[:-1]
    assert len(details) == canonical.HELD_RECORDS
    assert details[0] == "detail 50"
    assert details[-1] == f"detail {canonical.HELD_RECORDS + 49}"


def test_long_details_are_held_in_bounds(recorded: Log, open_event: Open) -> None:
    event = open_event()
    logger.debug("%s", "x" * 10_000_000)
    assert len(event.held[0].msg) <= 64 * 1024
    finish(event, 500)
    assert recorded.events()[0]["truncated"] is True


class Changing:
    """A thing whose text changes."""

    text = "before"

    def __str__(self) -> str:
        return self.text


def test_a_message_is_that_of_its_moment(recorded: Log, open_event: Open) -> None:
    event, changing, rows = open_event(), Changing(), [1]
    logger.debug("rows: %s", rows)
    logger.debug(changing)
    rows.append(2)
    changing.text = "after"
    finish(event, 500)
    assert messages(recorded)[:-1] == ["rows: [1]", "before"]


def test_a_detail_that_cannot_be_formatted_is_written_all_the_same(
    recorded: Log, open_event: Open
) -> None:
    root = logging.getLogger()
    # The test runner's own handler would raise.
    root.handlers[:] = [handler for handler in root.handlers if type(handler) is FlightRecorder]
    event = open_event()
    logger.debug("%d rows", "many")
    finish(event, 500)
    assert messages(recorded)[0].startswith("%d rows")


def test_an_internal_request_that_ends_well_leaves_no_line(recorded: Log, open_event: Open) -> None:
    event = open_event(internal=True)
    event.start({})
    finish(event, 200)
    assert recorded.lines() == []


def test_an_internal_request_that_fails_is_told_from_its_start(
    recorded: Log, open_event: Open
) -> None:
    event = open_event(internal=True)
    event.start({})
    finish(event, 500)
    assert messages(recorded) == ["Request started", "Request failed"]


def test_requests_do_not_hold_each_others_details(recorded: Log, open_event: Open) -> None:
    first, second = open_event(), open_event()
    logger.debug("of the second")
    canonical.enter(first)
    logger.debug("of the first")
    finish(first, 500)
    canonical.enter(second)
    finish(second, 200)
    assert messages(recorded) == ["of the first", "Request failed", "Request completed"]


def test_at_a_higher_level_the_usual_lines_are_held_too(full_log: Log, open_event: Open) -> None:
    logging.getLogger().handlers[:] = [FlightRecorder("WARNING", full_log.handler)]

    def serve(status: int) -> list[Event]:
        before = len(full_log.lines())
        event = open_event()
        event.start({})
        finish(event, status)
        return full_log.events()[before:]

    assert serve(200) == []
    assert len(serve(500)) == 2


def predict() -> None:
    """Write the line of a prediction."""
    _predicted.emit(logging.INFO, "Prediction completed", {"event_type": "prediction"}, {})


_predicted = FrequentLine(logger, predict, waits=True)


def test_a_prediction_is_written_with_the_next_line_of_its_request(
    recorded: Log, open_event: Open
) -> None:
    event = open_event()
    predict()
    assert messages(recorded) == []
    other = open_event()
    finish(other, 200)
    canonical.enter(event)
    predict()
    finish(event, 200)
    canonical.leave()
    predict()
    ends = ["Prediction completed", "Prediction completed", "Request completed"]
    assert messages(recorded) == ["Request completed", *ends, "Prediction completed"]
    lines = recorded.events()
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[1]["timestamp"] < lines[0]["timestamp"], "the time it was made"
    assert "request_id" not in lines[-1]


def test_a_prediction_is_written_if_no_line_follows(recorded: Log, open_event: Open) -> None:
    event = open_event(internal=True)
    predict()
    finish(event, 200)
    predict()
    assert messages(recorded) == ["Prediction completed", "Prediction completed"]
