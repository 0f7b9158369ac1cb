"""Compiles a model to ONNX and compares it with scikit-learn; runs in the child only."""

import hashlib
import re
import statistics
import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

from webapp.errors import InvalidInputError
from webapp.ml.columns import Column
from webapp.ml.delimited import read_sample
from webapp.ml.engines.encoders import register_encoders
from webapp.ml.engines.engine import Engine
from webapp.ml.engines.linear import register_linear
from webapp.ml.engines.onnx_engine import INPUT, OnnxEngine, name_column
from webapp.ml.engines.probing import Matrix, Prober
from webapp.ml.engines.sklearn_engine import SklearnEngine
from webapp.ml.engines.trees import register_trees
from webapp.ml.inputs import Table
from webapp.ml.passport import Compilation, Passport
from webapp.ml.predictor import Predictor

# What an engine takes.
Rows = Matrix | Table
# What is promised, and what the rows compared must keep to: they are a sample, and the greatest
# difference of all rows is greater than that of some.
TOLERANCE: Final = 1e-6
_MARGIN: Final = TOLERANCE / 4
# What is nearer to scikit-learn comes first.
_PRECISIONS: Final = {"float64": DoubleTensorType, "float32": FloatTensorType}
MAX_SAMPLE_ROWS: Final = 10_000
_BATCH_ROWS: Final = 1000
# What skl2onnx raises for a class that it does not know, which it names.
_MISSING: Final = (MissingShapeCalculator, MissingConverter)
_CLASS: Final = re.compile(r"<class '(?:\w+\.)*(\w+)'>")
_TIMED_ROWS: Final = 100
_TIMED_CALLS: Final = 9


@dataclass(frozen=True)
class Agreement:
    """How far two engines agree on some rows."""

    rows: int
    max_difference: float
    trouble: str | None


def compile_model(
    estimator: Any,
    passport: Passport,
    sample: bytes = b"",
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Compilation, bytes]:
    """Compile, verify and time; the graph is empty if scikit-learn is to go on.

    Float32 has its turn only where float64 cannot be converted, is not proven or no faster.
    ``tell`` is told what the libraries say, which is for the log: the reason is in our words.
    """
    started = time.perf_counter()
    predictor = Predictor(estimator, passport)
    if predictor.layout == "texts" or not all(map(_is_simple, predictor.columns)):
        return _stay(started, "only models of numbers and of categories are compiled"), b""
    original = SklearnEngine(estimator)
    try:
        finite, holed = _draw(predictor, original, sample)
    except InvalidInputError as error:
        return _stay(started, f"the sample does not fit the model: {error.message}"), b""
    reasons: dict[str, str] = {}

    def refuse(precision: str, reason: str, error: Exception) -> None:
        reasons[precision] = reason
        # A runtime may repeat a value, which must not be one of the sample's.
        words = "" if sample else f": {error}"
        tell(f"{precision}: {type(error).__name__}{words}")

    for precision, graph in _convert(estimator, predictor, refuse):
        try:
            found = _judge(OnnxEngine(graph, passport, original), original, passport, finite, holed)
        # Whatever the graph or the runtime raises: this candidate will not do.
        except Exception as error:
            refuse(precision, _blame_runtime(error), error)
            continue
        if found.reason is not None:
            reasons[precision] = found.reason
            continue
        compilation = replace(
            found,
            precision=precision,
            seconds=time.perf_counter() - started,
            onnx_sha256=hashlib.sha256(graph).hexdigest(),
            onnx_bytes=len(graph),
        )
        return compilation, graph
    return _stay(started, _sum_up(reasons)), b""


def compare(candidate: Engine, original: Engine, X: Rows, passport: Passport) -> Agreement:
    """Compare the answers of two engines: identical labels, numbers well within the tolerance."""
    finite = not bool(_find_holes(X).any())
    asked = {"finite": finite, "probabilities": passport.has_predict_proba}
    y, shares = _run(original, X, **asked)
    other_y, other_shares = _run(candidate, X, **asked)
    greatest = 0.0
    if passport.classes_ is not None or np.asarray(y).dtype.kind != "f":
        trouble = _differ_in_labels(np.asarray(y), np.asarray(other_y))
    else:
        greatest, trouble = _differ_in_numbers("values", y, other_y)
    if trouble is None and shares is not None:
        further, trouble = _differ_in_numbers("probabilities", shares, other_shares)
        greatest = max(greatest, further)
    return Agreement(len(X), greatest, trouble)


def _run(engine: Engine, X: Rows, **asked: bool) -> tuple[Any, Any]:
    """Run in batches: distances of all rows to all neighbours would not fit the child's memory."""
    starts = range(0, max(len(X), 1), _BATCH_ROWS)
    parts = [engine.run(X[i : i + _BATCH_ROWS], **asked) for i in starts]
    y, shares = zip(*parts, strict=True)
    if shares[0] is None:
        return np.concatenate(y), None
    return np.concatenate(y), np.concatenate([np.asarray(each) for each in shares], axis=-2)


def _differ_in_labels(y: Any, other: Any) -> str | None:
    if y.shape != other.shape:
        return f"answers of shape {other.shape} instead of {y.shape}"
    kinds = {y.dtype.kind, other.dtype.kind}
    if len(kinds) > 1 and kinds != {"U", "O"}:
        return f"labels of type {other.dtype} instead of {y.dtype}"
    wrong = int((y != other).reshape(len(y), -1).any(axis=1).sum())
    return f"{wrong} of {len(y)} labels differ" if wrong else None


def _differ_in_numbers(name: str, one: Any, other: Any) -> tuple[float, str | None]:
    one, other = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if one.shape != other.shape:
        return 0.0, f"{name} of shape {other.shape} instead of {one.shape}"
    with np.errstate(all="ignore"):
        difference = np.abs(one - other)
        difference[(one == other) | (np.isnan(one) & np.isnan(other))] = 0
        difference = np.fmin(difference, difference / np.abs(one))  # absolute or relative
    wrong = ~(difference <= _MARGIN)
    if wrong.any():
        rows = int(wrong.reshape(len(one), -1).any(axis=1).sum())
        return 0.0, f"{name} differ in {rows} of {len(one)} rows"
    return float(difference.max(initial=0)), None


def _is_simple(column: Column) -> bool:
    """Whether a column has numbers only or texts only."""
    known = [value for value in column.values if value is not None and value == value]
    return column.kind != "text" and (column.is_numeric or {str}.issuperset(map(type, known)))


def _draw(predictor: Predictor, original: Engine, sample: bytes) -> tuple[Rows, Rows]:
    """Draw rows without missing values, and rows with some where the model takes them."""
    prober = Prober(predictor.estimator, predictor.columns)

    def read(X: Matrix) -> Rows:
        if predictor.layout == "numbers":
            return np.ascontiguousarray(X)
        table: Table = predictor.read(prober.decode(X))[0]
        return table

    def ask(X: Matrix) -> Any:
        return np.asarray(original.run(read(X), finite=True, probabilities=False)[0])

    # The ordinary ones come first: they are what the engines are timed on.
    parts = [prober.plain(), prober.near(), prober.remembered(), prober.extreme()]
    answers = ask(parts[0][:1])
    if answers.ndim == 1 and answers.dtype.kind != "f":
        parts.append(prober.between(ask))
    X = read(np.concatenate(parts))
    if sample:
        rows = read_sample(sample, predictor)[:MAX_SAMPLE_ROWS]
        X = _join(X, predictor.read(rows)[0])
    holes = _find_holes(X)
    holed = X[holes]
    nullable = sorted(predictor.nullable.intersection(prober.numbers))
    if nullable:
        holed = _join(holed, read(prober.holed(nullable)))
    return X[~holes], holed


def _join(X: Any, further: Any) -> Rows:
    return X.join(further) if isinstance(X, Table) else np.concatenate([X, further])


def _find_holes(X: Rows) -> Any:
    return X.find_holes() if isinstance(X, Table) else np.isnan(X).any(axis=1)


def _convert(
    estimator: Any, predictor: Predictor, refuse: Callable[[str, str, Exception], None]
) -> Iterator[tuple[str, bytes]]:
    register_trees()
    register_linear()
    register_encoders()
    passport = predictor.passport
    options = {"zipmap": False} if passport.has_predict_proba else None
    answering = _unwrap(estimator)
    if predictor.layout != "numbers":
        answering = _name_by_position(answering)
    for precision, tensor in _PRECISIONS.items():
        try:
            model = to_onnx(answering, initial_types=_declare(predictor, tensor), options=options)
            _keep_outputs(model.graph, 2 if passport.has_shares else 1)
            graph = model.SerializeToString()
        # skl2onnx raises what it comes across; all of it means that it cannot.
        except Exception as error:
            refuse(precision, _blame_converter(error), error)
        else:
            yield precision, graph


def _declare(predictor: Predictor, tensor: type[Any]) -> list[tuple[str, Any]]:
    """Declare what a graph takes: a matrix, or every column of a table by itself."""
    columns = predictor.columns
    if predictor.layout == "numbers":
        return [(INPUT, tensor([None, len(columns)]))]
    return [
        (name_column(position), (tensor if column.is_numeric else StringTensorType)([None, 1]))
        for position, column in enumerate(columns)
    ]


def _name_by_position(step: Any) -> Any:
    """Copy a step with positions for the names of columns."""
    step = copy(step)
    if isinstance(step, Pipeline):
        step.steps = [(name, _name_by_position(inner)) for name, inner in step.steps]
    elif isinstance(step, ColumnTransformer):
        positions = step._transformer_to_input_indices
        step.transformers_ = [
            (name, _name_by_position(inner), list(positions.get(name, ())))
            for name, inner, _ in step.transformers_
        ]
    return step


def _keep_outputs(graph: Any, count: int) -> None:
    """Leave the first outputs of a graph, the nodes that they need, and the inputs of those."""
    del graph.output[count:]
    needed = {output.name for output in graph.output}
    for position, node in reversed(list(enumerate(graph.node))):
        if needed.isdisjoint(node.output):
            del graph.node[position]
        else:
            needed.update(node.input)
    for position, given in reversed(list(enumerate(graph.input))):
        if given.name not in needed:
            del graph.input[position]


def _unwrap(estimator: Any) -> Any:
    """Find the estimator that answers in place of a finished search."""
    while isinstance(estimator, (BaseSearchCV, FrozenEstimator)):
        frozen = isinstance(estimator, FrozenEstimator)
        estimator = estimator.estimator if frozen else estimator.best_estimator_
    return estimator


def _judge(
    candidate: Engine, original: Engine, passport: Passport, finite: Rows, holed: Rows
) -> Compilation:
    agreement = compare(candidate, original, finite, passport)
    if agreement.trouble is not None:
        return Compilation("sklearn", agreement.trouble, 0, agreement.rows)
    one = [_time_one(engine, finite) for engine in (original, candidate)]
    many = [_time(engine, finite[:_TIMED_ROWS]) for engine in (original, candidate)]
    # A row whose classes are close costs a call of scikit-learn, and among many there is one.
    if one[1] * many[1] >= one[0] * many[0]:
        return Compilation("sklearn", "proven, but no faster", 0, agreement.rows)
    takes_nan = len(holed) > 0 and _is_equal_with_holes(candidate, original, holed, passport)
    return Compilation(
        "onnx",
        None,
        seconds=0,
        verified_rows=agreement.rows + (len(holed) if takes_nan else 0),
        max_difference=agreement.max_difference,
        takes_nan=takes_nan,
        speed_up=round(one[0] / one[1], 1),
    )


def _is_equal_with_holes(
    candidate: Engine, original: Engine, holed: Rows, passport: Passport
) -> bool:
    return compare(candidate, original, holed, passport).trouble is None


def _time_one(engine: Engine, X: Rows) -> float:
    """Time single rows; some of them take longer than most."""
    return statistics.median(_time(engine, X[i : i + 1]) for i in range(_TIMED_CALLS))


def _time(engine: Engine, X: Rows) -> float:
    times = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        engine.run(X, finite=True, probabilities=False)
        times.append(time.perf_counter() - started)
    return min(times)


def _stay(started: float, reason: str) -> Compilation:
    return Compilation("sklearn", reason[:500], time.perf_counter() - started)


def _sum_up(reasons: dict[str, str]) -> str:
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{precision}: {reason}" for precision, reason in reasons.items())


def _blame_converter(error: Exception) -> str:
    found = _CLASS.search(str(error)) if isinstance(error, _MISSING) else None
    return f"no converter for {found[1]}" if found else "the converter refused it"


def _blame_runtime(error: Exception) -> str:
    if isinstance(error, FloatingPointError):
        return "a number is beyond the range of float32"
    return "the runtime refused it"
