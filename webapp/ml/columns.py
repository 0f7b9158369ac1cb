"""What each input column of an estimator is: read off its fitted transformers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.calibration import _CalibratedClassifier
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from webapp.ml.passport import FeatureKind

_STRENGTH: Final[tuple[FeatureKind, ...]] = ("number", "category", "text")
# Where estimators that wrap others keep the fitted ones.
_FITTED: Final = (
    "best_estimator_",
    "regressor_",
    "calibrated_classifiers_",
    "estimator_",
    "estimators_",
    "estimator",
)


@dataclass(frozen=True)
class Column:
    """One input column; ``values`` are the categories known, and ``closed`` allows no others."""

    kind: FeatureKind
    values: tuple[Any, ...] = ()
    closed: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether every value is a number."""
        if self.kind == "category":
            return bool(self.values) and all(type(v) in (int, float) for v in self.values)
        return self.kind == "number"

    @property
    def example(self) -> Any:
        """A value that the model takes."""
        if self.kind == "category":
            return next((v for v in self.values if not _is_missing(v)), "category")
        # 1 has a logarithm, a square root and an inverse.
        return 1.0 if self.kind == "number" else "text"


_NUMBER: Final = Column("number")
# A column that is dropped may hold anything.
_UNUSED: Final = Column("category")


def describe_columns(estimator: Any, n_features: int) -> list[Column]:
    """Tell what each of the estimator's input columns is."""
    return _columns(estimator, n_features) or [_NUMBER] * n_features


def _columns(step: Any, width: int) -> list[Column] | None:
    """Describe the input of a step; None if it hands its columns on as they are."""
    if step is None or step == "passthrough":
        return None
    if isinstance(step, (CountVectorizer, HashingVectorizer)):
        return [Column("text")] * width
    if isinstance(step, Pipeline):
        described = (_columns(inner, width) for _, inner in step.steps)
        return next((columns for columns in described if columns is not None), None)
    if isinstance(step, ColumnTransformer):
        return _of_column_transformer(step, width)
    if isinstance(step, FeatureUnion):
        return _merge(width, (_columns(inner, width) for _, inner in step.transformer_list))
    if isinstance(step, FunctionTransformer) and step.func is None:
        return None
    if isinstance(step, SimpleImputer) and step.statistics_.dtype == object:
        return None
    if getattr(step, "is_categorical_", None) is not None:
        return _of_boosting(step)
    if hasattr(step, "categories_") and len(step.categories_) == width:
        closed = getattr(step, "handle_unknown", "ignore") == "error"
        return [_category(categories, closed) for categories in step.categories_]
    return _merge(width, (_columns(inner, width) for inner in _fitted_inside(step, width)))


def _of_column_transformer(step: ColumnTransformer, width: int) -> list[Column]:
    columns = [_UNUSED] * width
    for name, inner, _ in step.transformers_:
        positions = step._transformer_to_input_indices.get(name, [])
        if isinstance(inner, str) and inner == "drop":
            continue
        found = _columns(inner, len(positions)) or [_NUMBER] * len(positions)
        for position, column in zip(positions, found, strict=True):
            columns[position] = max(columns[position], column, key=_demand)
    return columns


def _of_boosting(step: Any) -> list[Column]:
    """Gradient boosting with categories puts them first; it takes unknown ones as missing."""
    encoder = step._preprocessor.named_transformers_["encoder"]
    categories = iter(encoder.categories_)
    return [
        _category(next(categories), closed=False) if is_category else _NUMBER
        for is_category in step.is_categorical_
    ]


def _category(categories: Any, closed: bool) -> Column:
    return Column("category", tuple(np.asarray(categories).tolist()), closed)


def _fitted_inside(step: Any, width: int) -> Iterator[Any]:
    for attribute in _FITTED:
        inner = getattr(step, attribute, None)
        if inner is None:
            continue
        if isinstance(inner, np.ndarray):
            inner = inner.ravel().tolist()
        for estimator in inner if isinstance(inner, list) else [inner]:
            # A stage behind a feature selection sees other columns than the caller sends.
            if getattr(estimator, "n_features_in_", width) == width:
                yield estimator.estimator if type(estimator) is _CalibratedClassifier else estimator
        return


def _merge(width: int, described: Iterable[list[Column] | None]) -> list[Column]:
    """Where two steps read a column, the one that asks more of it counts."""
    merged = [_NUMBER] * width
    for columns in described:
        if columns is not None:
            merged = [max(pair, key=_demand) for pair in zip(merged, columns, strict=True)]
    return merged


def _demand(column: Column) -> tuple[bool, int, bool]:
    return column is not _UNUSED, _STRENGTH.index(column.kind), column.closed


def _is_missing(value: Any) -> bool:
    return value is None or value != value
