"""Draws the rows on which two engines are compared: where a model is likely to tell them apart.

Rows that a data set would have are not enough: a float32 copy of gradient boosting is right on
them, and wrong next to the thresholds.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from scipy.sparse import issparse
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)

from webapp.ml.columns import Column
from webapp.ml.graph import walk

Matrix = np.ndarray[Any, np.dtype[np.float64]]
# Answers with one label or number per row.
Ask = Callable[[Matrix], Any]

NEAR_ROWS: Final = 2000
REMEMBERED_ROWS: Final = 500
PLAIN_ROWS: Final = 4000
EXTREME_ROWS: Final = 100
HOLED_ROWS: Final = 400
_PAIRS: Final = 200
# As near to a boundary as two orders of summing may differ is no fault of either.
_BISECTIONS: Final = 20
_POOL: Final = 4000
_EXTREMES: Final = (0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 1e6, -1e6, 1e15, -1e15, 1e30, -1e30)
_SCALERS: Final = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)


class Prober:
    """Draws rows for one estimator, the same ones every time.

    A category that is no number is drawn as its position among those known; ``decode`` makes
    rows of it as a client would send them.
    """

    def __init__(self, estimator: Any, columns: Sequence[Column]) -> None:
        self._estimator = estimator
        self._random = np.random.default_rng(0)
        self._known = [column.closed or not column.is_numeric for column in columns]
        self._categories = [None if c.is_numeric else _list_categories(c) for c in columns]
        critical = _critical(estimator, len(columns))
        self._pools = []
        self._ranges = []
        for column, values, categories in zip(columns, critical, self._categories, strict=True):
            if categories is not None:
                self._ranges.append((0.0, 1.0))
                self._pools.append(np.arange(len(categories), dtype=np.float64))
                continue
            values = np.concatenate([values, [v for v in column.values if v is not None]])
            values = np.unique(values[np.isfinite(values)])
            if len(values) > _POOL:
                values = self._random.choice(values, _POOL, replace=False)
            low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
            margin = (high - low) / 4 or 1.0
            self._ranges.append((low - margin, high + margin))
            near = values if column.closed else _neighbours(values)
            self._pools.append(near if len(near) else np.array([0.0, 1.0]))

    @property
    def numbers(self) -> set[int]:
        """The positions of columns that hold numbers."""
        return {i for i, categories in enumerate(self._categories) if categories is None}

    def decode(self, X: Matrix) -> list[list[Any]]:
        """Make rows of JSON values."""
        columns = [
            [None if value != value else value for value in values]
            if categories is None
            else [categories[int(value)] for value in values]
            for values, categories in zip(X.T.tolist(), self._categories, strict=True)
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def near(self) -> Matrix:
        """Draw rows of values at and next to what the model compares with."""
        return self._draw(NEAR_ROWS, lambda i, n: self._random.choice(self._pools[i], n))

    def remembered(self) -> Matrix:
        """Take rows that the model keeps, where distances are equal, and the middles of pairs."""
        rows = _remembered(self._estimator, len(self._pools))
        if len(rows) > REMEMBERED_ROWS:
            rows = self._random.choice(rows, REMEMBERED_ROWS, replace=False)
        return np.concatenate([rows, (rows + rows[::-1]) / 2])

    def plain(self, count: int = PLAIN_ROWS) -> Matrix:
        """Draw rows from the range in which the model decides."""
        return self._draw(count, lambda i, n: self._random.uniform(*self._ranges[i], n))

    def extreme(self) -> Matrix:
        """Draw ordinary rows with very large, very small and no values in some columns."""
        X = self.plain(EXTREME_ROWS)
        spots: Any = self._random.random(X.shape) < 1 / 3
        spots[:, self._known] = False
        X[spots] = self._random.choice(_EXTREMES, int(spots.sum()))
        return X

    def holed(self, nullable: Sequence[int]) -> Matrix:
        """Draw rows in which values are missing where they may."""
        X = np.concatenate([self.near()[: HOLED_ROWS // 2], self.plain(HOLED_ROWS // 2)])
        spots = np.zeros(X.shape, dtype=bool)
        spots[:, list(nullable)] = self._random.random((len(X), len(nullable))) < 1 / 3
        spots[np.arange(len(X)), self._random.choice(nullable, len(X))] = True
        X[spots] = np.nan
        return X

    def between(self, ask: Ask) -> Matrix:
        """Halve the way between rows of different answers, to both sides of where it changes.

        Every row on the way is kept: there probabilities are neither 0 nor 1, and tell engines
        apart that agree on rows from elsewhere.
        """
        end = np.concatenate([self.plain(_PAIRS), self.remembered()[-_PAIRS:]])
        start = self.plain(len(end))
        end[:, self._known] = start[:, self._known]
        first = ask(start)
        differ = first != ask(end)
        start, end, first = start[differ], end[differ], first[differ]
        way = []
        for _ in range(_BISECTIONS if len(start) else 0):
            middle = (start + end) / 2
            same = ask(middle) == first
            start[same] = middle[same]
            end[~same] = middle[~same]
            way.append(middle)
        return np.concatenate([*way, start, end])

    def _draw(self, count: int, draw: Callable[[int, int], Any]) -> Matrix:
        columns = [
            self._random.choice(pool, count) if known else draw(i, count)
            for i, (pool, known) in enumerate(zip(self._pools, self._known, strict=True))
        ]
        return np.stack(columns, axis=1).astype(np.float64)


def _list_categories(column: Column) -> list[Any]:
    """List what may stand in a column, and something unknown if that may."""
    known = [value for value in column.values if value is not None and value == value]
    unknown = "?" * (1 + max((len(str(value)) for value in known), default=0))
    return known if column.closed else [*known, unknown]


def _remembered(estimator: Any, width: int) -> Matrix:
    if isinstance(estimator, Pipeline):
        *before, (_, last) = estimator.steps
        if not all(isinstance(step, _SCALERS) for _, step in before):
            return np.empty((0, width))
        rows = _remembered(last, width)
        for _, step in reversed(before if len(rows) else []):
            rows = step.inverse_transform(rows)
        return rows
    found = [np.empty((0, width))]
    for part in walk(estimator):
        for name in ("_fit_X", "X_train_", "support_vectors_", "cluster_centers_"):
            kept: Any = getattr(part, name, None)
            kept = kept.toarray() if issparse(kept) else kept
            if isinstance(kept, np.ndarray) and kept.ndim == 2 and kept.shape[1] == width:
                found.append(kept.astype(np.float64))
    return np.concatenate(found)


def _critical(step: Any, width: int) -> list[Matrix]:
    """List, for each input column of a step, the values where its answer may change."""
    if isinstance(step, Pipeline):
        return _of_pipeline(step, width)
    if isinstance(step, ColumnTransformer):
        found = [np.empty(0)] * width
        for _, inner, positions in _parts(step):
            if not isinstance(inner, str):
                own = _critical(inner, len(positions))
                found = _merge(found, positions, own)
        return found
    found = [np.empty(0)] * width
    for part in walk(step):
        for feature, values in _of_part(part, width):
            found[feature] = np.concatenate([found[feature], values])
    return found


def _of_pipeline(pipeline: Pipeline, width: int) -> list[Matrix]:
    """Take what later steps compare with back through the steps before them."""
    steps = [step for _, step in pipeline.steps if step is not None and step != "passthrough"]
    widths = [width]
    for step in steps[:-1]:
        widths.append(_width_after(step, widths[-1]))
    found: list[Matrix] = []
    for step, given in reversed(list(zip(steps, widths, strict=True))):
        found = _merge(_critical(step, given), range(given), _take_back(step, given, found))
    return found


def _take_back(step: Any, width: int, later: list[Matrix]) -> list[Matrix]:
    """Find the inputs of a step for what comes out of it, where each column stays by itself."""
    if isinstance(step, ColumnTransformer):
        found = [np.empty(0)] * width
        for name, inner, positions in _parts(step):
            own = _take_back(inner, len(positions), later[step.output_indices_[name]])
            found = _merge(found, positions, own)
        return found
    if isinstance(step, Pipeline):
        for _, inner in reversed(step.steps):
            later = _take_back(inner, width, later)
        return later
    if len(later) != width:
        return [np.empty(0)] * width
    if isinstance(step, _SCALERS):
        return [_unscale(step, i, values) for i, values in enumerate(later)]
    is_plain = isinstance(step, (SimpleImputer, str)) or step is None
    is_plain |= isinstance(step, FunctionTransformer) and step.func is None
    return later if is_plain else [np.empty(0)] * width


def _parts(step: ColumnTransformer) -> list[tuple[str, Any, Sequence[int]]]:
    """List the transformers that are in use, with the positions of their columns."""
    given = step._transformer_to_input_indices
    return [
        (name, inner, given[name])
        for name, inner, _ in step.transformers_
        if len(given.get(name, ())) and not (isinstance(inner, str) and inner == "drop")
    ]


def _merge(
    found: list[Matrix], positions: Sequence[int], further: Sequence[Matrix]
) -> list[Matrix]:
    merged = list(found)
    for position, values in zip(positions, further, strict=False):
        merged[position] = np.concatenate([merged[position], values])
    return merged


def _width_after(step: Any, width: int) -> int:
    try:
        return len(step.get_feature_names_out())
    except (AttributeError, ValueError):
        return width


def _unscale(scaler: Any, position: int, values: Matrix) -> Matrix:
    X = np.zeros((len(values), scaler.n_features_in_))
    X[:, position] = values
    unscaled: Matrix = (scaler.inverse_transform(X) if len(X) else X)[:, position]
    return unscaled


def _of_part(part: Any, width: int) -> list[tuple[int, Matrix]]:
    tree = getattr(part, "tree_", None)
    if tree is not None and tree.n_features == width:
        inner = tree.feature >= 0
        return _by_feature(tree.feature[inner], tree.threshold[inner])
    nodes = getattr(part, "nodes", None)  # of gradient boosting over histograms
    if isinstance(nodes, np.ndarray) and nodes.dtype.names and "num_threshold" in nodes.dtype.names:
        inner = nodes[nodes["is_leaf"] == 0]
        return _by_feature(inner["feature_idx"], inner["num_threshold"])
    found: list[tuple[int, Matrix]] = []
    for name in ("statistics_", "center_", "data_min_", "data_max_", "max_abs_"):
        values = getattr(part, name, None)
        if isinstance(values, np.ndarray) and values.shape == (width,) and values.dtype.kind == "f":
            found += [(i, values[i : i + 1]) for i in range(width)]
    for name in ("mean_", "theta_", "cluster_centers_", "support_vectors_", "_fit_X", "location_"):
        values = getattr(part, name, None)
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            rows = np.atleast_2d(values)
            if rows.ndim == 2 and rows.shape[1] == width:
                found += [(i, _spread(rows[:, i], _scale(part, i))) for i in range(width)]
    for name in ("bin_edges_", "categories_"):
        edges = getattr(part, name, None)
        if isinstance(edges, (list, np.ndarray)) and len(edges) == width:
            found += [
                (i, values.astype(np.float64))
                for i, values in enumerate(map(np.asarray, edges))
                if values.dtype.kind in "iuf"
            ]
    coefficients = getattr(part, "coef_", None)
    if not found and isinstance(coefficients, np.ndarray):
        rows = np.atleast_2d(coefficients)
        if rows.ndim == 2 and rows.shape[1] == width and rows.dtype.kind == "f":
            reach = 1 / np.maximum(np.abs(rows).max(axis=0), 1e-6)
            found += [(i, np.array([-3.0, -1.0, 0.0, 1.0, 3.0]) * reach[i]) for i in range(width)]
    return found


def _scale(part: Any, position: int) -> float:
    scale = getattr(part, "scale_", None)
    if isinstance(scale, np.ndarray) and scale.ndim == 1 and position < len(scale):
        return float(scale[position])
    return 1.0


def _spread(values: Matrix, scale: float) -> Matrix:
    if len(values) > 1:
        return values
    return values + scale * np.array([-3.0, -1.0, 0.0, 1.0, 3.0])


def _by_feature(features: Any, thresholds: Any) -> list[tuple[int, Matrix]]:
    return [(int(f), thresholds[features == f].astype(np.float64)) for f in np.unique(features)]


def _neighbours(values: Matrix) -> Matrix:
    """The values, and the next ones to both sides of each in float64 and in float32.

    Also the middles between those of float32, where rounding to it goes from one to the other.
    """
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
        lower, upper = (np.nextafter(single, np.float32(limit)) for limit in (-np.inf, np.inf))
        middles = [(single.astype(np.float64) + other) / 2 for other in (lower, upper)]
        exact = [one for each in (values, *middles) for one in (each, *_beside(each))]
        found: Matrix = np.concatenate([*exact, single, lower, upper]).astype(np.float64)
    return found[np.isfinite(found)]


def _beside(values: Matrix) -> tuple[Matrix, Matrix]:
    return np.nextafter(values, -np.inf), np.nextafter(values, np.inf)
