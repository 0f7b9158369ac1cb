"""How values look on the admin page."""

import pytest
from markupsafe import Markup

from webapp.web.pages import formats


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0.0 ms"),
        (0.0123, "12.3 ms"),
        (0.5, "500 ms"),
        (1.234, "1.23 s"),
        (1234.5, "1,234 s"),
    ],
)
def test_durations_have_the_unit_that_suits_them(value: float | None, shown: str) -> None:
    assert formats.seconds(value) == shown


@pytest.mark.parametrize(
    ("now", "before", "shown"),
    [
        (None, 1, "–"),
        (5, 5, "no change"),
        (5, 0, "none before"),
        (15, 10, "+50%"),
        (5, 10, "−50%"),
        (200, 10, "× 20.0"),
    ],
)
def test_a_change_is_told_against_what_was_before(
    now: float | None, before: float | None, shown: str
) -> None:
    assert formats.change(now, before) == shown


def test_sizes_counts_and_shares() -> None:
    assert [formats.size(value) for value in (None, 3, 2048, 5 * 2**20, 3 * 2**30)] == [
        "–",
        "3 B",
        "2.0 KiB",
        "5.0 MiB",
        "3.0 GiB",
    ]
    assert [formats.number(value) for value in (None, 1234567, 0.5)] == ["–", "1,234,567", "0.50"]
    assert [formats.percent(value) for value in (None, 0, 0.0456)] == ["–", "0 %", "4.56 %"]


def test_what_hides_or_turns_text_around_is_made_visible() -> None:
    assert formats.visible("a\u202eb\x1b[0m\u200b") == "a\\u202eb\\u001b[0m\\u200b"
    assert formats.visible("two\n\tlines") == "two\n\tlines"
    assert formats.visible(Markup("<b>\n</b>")) == "<b>\n</b>"
    assert formats.visible(7) == 7


def test_frames_of_a_traceback_are_told_apart() -> None:
    trace = (
        "Traceback (most recent call last):\n"
        '  File "/srv/webapp/app.py", line 1, in run\n'
        "    work()\n"
        '  File "/lib/numpy.py", line 2, in work\n'
        "ValueError: no\n"
    )
    kinds = [kind for kind, _ in formats.frames(trace)]
    assert kinds == ["head", "own", "own", "library", "error"]
