"""Filter expressions: what they find, and what is said about those that are wrong."""

from datetime import timedelta

import pytest

from tests.log_lines import START, Process, write_log
from webapp.logstore import queries
from webapp.logstore.filters import FilterError, parse_filters
from webapp.logstore.reader import LogReader


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> LogReader:
    process = Process()
    later = START + timedelta(seconds=1)
    events = [
        process.event(START, level="DEBUG"),
        process.event(START, status_code=200, duration=0.5, user_id="ann"),
        process.event(later, level="WARNING", status_code=404, message="Prediction failed"),
        process.event(later, level="ERROR", status_code=500, duration=2, internal=True),
        process.event(later, level="CRITICAL", details={"role": "admin", "n": 3}, colour="red"),
    ]
    folder = tmp_path_factory.mktemp("logs")
    write_log(folder / "app.log", events)
    return LogReader(folder)


@pytest.mark.parametrize(
    ("expressions", "seqs"),
    [
        ("", [1, 2, 3, 4, 5]),
        ("level=error", [4]),
        ("level>=warning", [3, 4, 5]),
        ("level>=WARN level!=error", [3, 5]),
        ("level<info", [1]),
        ("level>critical", []),
        ("status_code>=404", [3, 4]),
        ("status_code=200", [2]),
        ("status_code!=200", [1, 3, 4, 5]),
        ("duration>0.2", [2, 4]),
        ("duration>0.2 duration<=0.5", [2]),
        ("user_id=ann", [2]),
        ("user_id=Ann", []),
        ("message~prediction", [3]),
        ("message!~prediction", [1, 2, 4, 5]),
        ("internal=true", [4]),
        ("status_code~40", [3]),
        ("timestamp>=2026-11-23T08:00:01Z", [3, 4, 5]),
        ("timestamp<2026-11-23T10:00:01+02:00", [1, 2]),
        ("details.role=admin", [5]),
        ("details~admin", [5]),
        ("extra.colour=red", [5]),
        ("extra.absent=red", []),
        ("user_id=ann' OR 'a'='a", []),
    ],
)
def test_a_filter_finds_its_events(reader: LogReader, expressions: str, seqs: list[int]) -> None:
    parts = (expressions,) if " OR " in expressions else tuple(expressions.split())
    found = queries.search(reader, parse_filters(parts))
    assert [event["seq"] for event in found] == seqs


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("levl=error", "unknown field 'levl'; nearest: level"),
        ("modelid=x", "model_id"),
        ("colour=red", r"extra\.colour"),
        ("extra=red", "unknown field 'extra'"),
        ("level=loud", "none of DEBUG, INFO"),
        ("status_code=abc", "status_code is compared with a number, not 'abc'"),
        ("duration>fast", "duration is compared with a number"),
        ("internal=maybe", "true or false"),
        ("timestamp>yesterday", "2026-11-24T10:00:00Z"),
        ("error", "FIELD OPERATOR VALUE; for example level>=warning"),
        ("level", "for example"),
        ('details."x"=1', "for example"),
        ("timestamp>0001-01-01T00:00:00+14:00", r"\+14:00', which is out of range"),
        (f"pid>{'9' * 400}", "pid is compared with '9+', which is out of range"),
        ("pid<-9223372036854775809", "out of range"),
        ("extra..a=1", r"'extra\.\.a' has an empty part"),
        ("extra.a..b=1", "empty part"),
        ("details.=1", "empty part"),
    ],
)
def test_a_wrong_filter_is_explained(expression: str, message: str) -> None:
    with pytest.raises(FilterError, match=message):
        parse_filters((expression,))
