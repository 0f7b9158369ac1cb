"""Figures over time: complete rows of steps, for the browser's charts and for plain SVG."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from webapp.logstore.rows import Count, SeriesPoint
from webapp.web.pages.span import Span

Values = Sequence[float | None]
WIDTH: Final = 600
HEIGHT: Final = 120
_SHORTEST_SECONDS: Final = 1e-4


@dataclass(frozen=True)
class Line:
    """One line of a chart; ``style`` names its colours in the stylesheet."""

    label: str
    style: str
    values: Values


@dataclass(frozen=True)
class Chart:
    """What a chart shows over the steps of a span."""

    title: str
    unit: str  # per_second, ratio or seconds
    starts: Sequence[int]
    lines: Sequence[Line]
    area: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """What the browser's script needs to draw it."""
        return {
            "title": self.title,
            "unit": self.unit,
            "area": self.area,
            "x": self.starts,
            "lines": [
                {"label": line.label, "style": line.style, "values": line.values}
                for line in self.lines
            ],
        }

    @property
    def top(self) -> float:
        """The largest value of all lines."""
        return max(_known(value for line in self.lines for value in line.values), default=0.0)

    @property
    def paths(self) -> list[tuple[str, str]]:
        """The lines as SVG paths, each with its style."""
        scale = _magnitude if self.unit == "seconds" else float
        top = scale(self.top)
        return [
            (line.style, path([_scaled(value, scale) for value in line.values], WIDTH, HEIGHT, top))
            for line in self.lines
        ]


@dataclass
class Steps:
    """The steps of a span, each with the seconds of it that have passed."""

    span: Span
    starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        step = self.span.step_seconds
        first = int(self.span.begin.timestamp()) // step * step
        last = int(self.span.end.timestamp() - 1e-6) // step * step
        self.starts = list(range(first, last + 1, step))

    def per_second(self, points: Mapping[int, SeriesPoint]) -> list[float]:
        """Divide the requests of each step by the seconds of it that lie in the span."""
        begin, end = self.span.begin.timestamp(), self.span.end.timestamp()
        rates = []
        for start in self.starts:
            passed = min(start + self.span.step_seconds, end) - max(start, begin)
            requests = points[start].requests if start in points else 0
            rates.append(round(requests / max(passed, 1.0), 4))
        return rates


def overview_charts(span: Span, points: Iterable[SeriesPoint]) -> list[Chart]:
    """Make the charts of requests per second, error rate and durations."""
    steps = Steps(span)
    at = {point.start: point for point in points}
    found = [at.get(start) for start in steps.starts]

    def durations(name: str) -> Values:
        return [getattr(point, name) if point else None for point in found]

    errors = [point.errors / point.requests if point else None for point in found]
    return [
        Chart(
            "Requests per second",
            "per_second",
            steps.starts,
            [Line("requests/s", "requests", steps.per_second(at))],
            area=True,
        ),
        Chart("Error rate", "ratio", steps.starts, [Line("errors", "errors", errors)], area=True),
        Chart(
            "Duration",
            "seconds",
            steps.starts,
            [Line(name, name, durations(name)) for name in ("p50", "p95", "p99")],
        ),
    ]


def sparklines(span: Span, counts: Iterable[Count]) -> dict[str, str]:
    """Draw a small path of counts over time for each name."""
    starts = {start: place for place, start in enumerate(Steps(span).starts)}
    values: dict[str, list[float]] = {}
    for count in counts:
        if count.start in starts:
            values.setdefault(count.name, [0.0] * len(starts))[starts[count.start]] = count.count
    return {name: path(row, 120, 24, max(row)) for name, row in values.items()}


def path(values: Values, width: int, height: int, top: float) -> str:
    """Write an SVG path from the left to the right; it breaks where there is no value."""
    across = width / max(len(values) - 1, 1)
    drawn, broken = [], True
    for place, value in enumerate(values):
        if value is None:
            broken = True
            continue
        y = height - 1 - (value / top if top else 0) * (height - 2)
        alone = broken and (place + 1 == len(values) or values[place + 1] is None)
        dot = "h1" if alone else ""  # a line of no length would not be seen
        drawn.append(f"{'M' if broken else 'L'}{place * across:.1f} {y:.1f}{dot}")
        broken = False
    return "".join(drawn)


def _magnitude(seconds: float) -> float:
    """Count orders of magnitude above 0.1 ms: durations span milliseconds to seconds."""
    return math.log10(max(seconds, _SHORTEST_SECONDS) / _SHORTEST_SECONDS)


def _scaled(value: float | None, scale: Callable[[float], float]) -> float | None:
    return None if value is None else scale(value)


def _known(values: Iterable[float | None]) -> Iterable[float]:
    return (value for value in values if value is not None)
