"""Compiles a model to ONNX and compares it with scikit-learn; runs in the child only."""

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection._search import BaseSearchCV

from webapp.errors import InvalidInputError
from webapp.ml.engines.engine import Engine
from webapp.ml.engines.linear import register_linear
from webapp.ml.engines.onnx_engine import INPUT, OnnxEngine
from webapp.ml.engines.probing import Matrix, Prober, read_sample
from webapp.ml.engines.sklearn_engine import SklearnEngine
from webapp.ml.engines.trees import register_trees
from webapp.ml.passport import Compilation, Passport
from webapp.ml.predictor import Predictor

# What is promised, and what the rows compared must keep to: they are a sample, and the greatest
# difference of all rows is greater than that of some.
TOLERANCE: Final = 1e-6
_MARGIN: Final = TOLERANCE / 4
# What is nearer to scikit-learn comes first.
_PRECISIONS: Final = {"float64": DoubleTensorType, "float32": FloatTensorType}
_TIMED_ROWS: Final = 100
_TIMED_CALLS: Final = 9


@dataclass(frozen=True)
class Agreement:
    """How far two engines agree on some rows."""

    rows: int
    max_difference: float
    trouble: str | None


def compile_model(
    estimator: Any, passport: Passport, sample: str = ""
) -> tuple[Compilation, bytes]:
    """Compile, verify and time; the graph is empty if scikit-learn is to go on.

    Float32 has its turn only where float64 cannot be converted, is not proven or no faster.
    """
    started = time.perf_counter()
    predictor = Predictor(estimator, passport)
    if predictor.layout != "numbers":
        return _stay(started, "only models of numbers are compiled"), b""
    original = SklearnEngine(estimator)
    try:
        finite, holed = _draw(predictor, original, sample)
    except InvalidInputError as error:
        return _stay(started, f"the sample does not fit the model: {error.message}"), b""
    reasons: list[str] = []
    for precision, graph in _convert(estimator, passport, reasons.append):
        try:
            found = _judge(OnnxEngine(graph, passport, original), original, passport, finite, holed)
        # Whatever the graph or the runtime raises: this candidate will not do.
        except Exception as error:
            reasons.append(f"{precision}: {_say(error)}")
            continue
        if found.reason is not None:
            reasons.append(f"{precision}: {found.reason}")
            continue
        compilation = replace(
            found,
            precision=precision,
            seconds=time.perf_counter() - started,
            onnx_sha256=hashlib.sha256(graph).hexdigest(),
            onnx_bytes=len(graph),
        )
        return compilation, graph
    return _stay(started, "; ".join(reasons)), b""


def compare(candidate: Engine, original: Engine, X: Matrix, passport: Passport) -> Agreement:
    """Compare the answers of two engines: identical labels, numbers well within the tolerance."""
    finite = not bool(np.isnan(X).any())
    asked = {"finite": finite, "probabilities": passport.has_predict_proba}
    y, shares = original.run(X, **asked)
    other_y, other_shares = candidate.run(X, **asked)
    greatest = 0.0
    if passport.classes_ is not None or np.asarray(y).dtype.kind != "f":
        trouble = _differ_in_labels(np.asarray(y), np.asarray(other_y))
    else:
        greatest, trouble = _differ_in_numbers("values", y, other_y)
    if trouble is None and shares is not None:
        further, trouble = _differ_in_numbers("probabilities", shares, other_shares)
        greatest = max(greatest, further)
    return Agreement(len(X), greatest, trouble)


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


def _draw(predictor: Predictor, original: Engine, sample: str) -> tuple[Matrix, Matrix]:
    """Draw rows without missing values, and rows with some where the model takes them."""
    prober = Prober(predictor.estimator, predictor.columns)
    # The ordinary ones come first: they are what the engines are timed on.
    parts = [prober.plain(), prober.near(), prober.remembered(), prober.extreme()]

    def ask(X: Matrix) -> Any:
        return np.asarray(original.run(X, finite=True, probabilities=False)[0])

    answers = ask(parts[0][:1])
    if answers.ndim == 1 and answers.dtype.kind != "f":
        parts.append(prober.between(ask))
    if sample:
        parts.append(predictor.read(read_sample(sample))[0])
    X = np.concatenate(parts)
    holes = np.isnan(X).any(axis=1)
    nullable = predictor.nullable
    holed = [X[holes], *([prober.holed(sorted(nullable))] if nullable else [])]
    return np.ascontiguousarray(X[~holes]), np.concatenate(holed)


def _convert(
    estimator: Any, passport: Passport, refuse: Callable[[str], None]
) -> Iterator[tuple[str, bytes]]:
    register_trees()
    register_linear()
    options = {"zipmap": False} if passport.has_predict_proba else None
    unwrapped = _unwrap(estimator)
    for precision, tensor in _PRECISIONS.items():
        try:
            model = to_onnx(
                unwrapped,
                initial_types=[(INPUT, tensor([None, passport.n_features_in_]))],
                options=options,
            )
            _keep_outputs(model.graph, 2 if passport.has_shares else 1)
            graph = model.SerializeToString()
        # skl2onnx raises what it comes across; all of it means that it cannot.
        except Exception as error:
            refuse(f"{precision}: {_say(error)}")
        else:
            yield precision, graph


def _keep_outputs(graph: Any, count: int) -> None:
    """Leave the first outputs of a graph and the nodes that they need."""
    del graph.output[count:]
    needed = {output.name for output in graph.output}
    for position, node in reversed(list(enumerate(graph.node))):
        if needed.isdisjoint(node.output):
            del graph.node[position]
        else:
            needed.update(node.input)


def _unwrap(estimator: Any) -> Any:
    """Find the estimator that answers in place of a finished search."""
    while isinstance(estimator, (BaseSearchCV, FrozenEstimator)):
        frozen = isinstance(estimator, FrozenEstimator)
        estimator = estimator.estimator if frozen else estimator.best_estimator_
    return estimator


def _judge(
    candidate: Engine, original: Engine, passport: Passport, finite: Matrix, holed: Matrix
) -> Compilation:
    agreement = compare(candidate, original, finite, passport)
    if agreement.trouble is not None:
        return Compilation("sklearn", agreement.trouble, 0, agreement.rows)
    one = [_time_one(engine, finite) for engine in (original, candidate)]
    many = [_time(engine, finite[:_TIMED_ROWS]) for engine in (original, candidate)]
    if one[1] + many[1] >= one[0] + many[0]:
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
    candidate: Engine, original: Engine, holed: Matrix, passport: Passport
) -> bool:
    return compare(candidate, original, holed, passport).trouble is None


def _time_one(engine: Engine, X: Matrix) -> float:
    """Time single rows; some of them take longer than most."""
    return statistics.median(_time(engine, X[i : i + 1]) for i in range(_TIMED_CALLS))


def _time(engine: Engine, X: Matrix) -> float:
    times = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        engine.run(X, finite=True, probabilities=False)
        times.append(time.perf_counter() - started)
    return min(times)


def _stay(started: float, reason: str) -> Compilation:
    return Compilation("sklearn", reason[:500], time.perf_counter() - started)


def _say(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:150] if text else ''}"
