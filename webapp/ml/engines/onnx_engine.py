"""ONNX Runtime: a compiled model on the CPU, in the thread of the request."""

from typing import Any, Final

import numpy as np
import onnxruntime

from webapp.ml.engines.engine import Engine
from webapp.ml.inputs import Table
from webapp.ml.passport import EngineName, Passport

INPUT: Final = "X"
# Nearer to each other than this, rounding decides which of two classes is the likelier.
CLOSE: Final = 1e-5
_FLOAT32: Final = "tensor(float)"
_TEXT: Final = "tensor(string)"


class OnnxEngine:
    """Runs the graph that a model was compiled to.

    Half of a forest's trees may be for one class and half for the other. Such rows go to the
    original, so that a label never depends on the engine.
    """

    name: EngineName = "onnx"

    def __init__(self, graph: bytes, passport: Passport, original: Engine) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4  # what goes wrong is raised
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        count = 2 if passport.has_shares else 1
        self._outputs = [output.name for output in self._session.get_outputs()][:count]
        self._types = {given.name: given.type for given in self._session.get_inputs()}
        self._original = original
        self._label_type = _find_label_type(passport.classes_)
        self._flat = not isinstance(passport.smoke_prediction, list)

    def run(self, X: Any, *, finite: bool, probabilities: bool) -> tuple[Any, Any]:
        """Return what ``predict`` answers, and ``predict_proba`` if it is asked for, else None.

        Raises
        ------
        FloatingPointError : a number is beyond the range of float32; trees of scikit-learn take
            none such, and no engine is proven for them
        ValueError : a category is missing, which is no text
        """
        given = self._feed(X, finite)
        y, *others = self._session.run(self._outputs, given)
        if self._label_type is not None:
            y = y.astype(self._label_type)
        if not others:
            return y.reshape(-1) if self._flat else y, None
        (shares,) = others
        if len(shares) == 1:  # by far the most frequent, and numpy costs more than one comparison
            *_, second, first = sorted(shares[0].tolist())
            if first - second < CLOSE:
                return self._original.run(X, finite=finite, probabilities=True)
            return y, shares
        close = _margins(shares) < CLOSE
        if close.any():
            y[close], shares[close] = self._original.run(
                X[close], finite=finite, probabilities=True
            )
        return y, shares

    def _feed(self, X: Any, finite: bool) -> dict[str, Any]:
        """Name what the graph takes: a matrix, or those columns of a table that it uses."""
        if not isinstance(X, Table):
            return {INPUT: _check_numbers(X, self._types[INPUT])}
        given = {}
        for position, column in enumerate(X.columns):
            name = name_column(position)
            kind = self._types.get(name)
            if kind == _TEXT:
                if not finite and any(type(value) is not str for value in column):
                    raise ValueError("a category is missing")
                given[name] = column[:, None]
            elif kind is not None:
                given[name] = _check_numbers(column, kind)[:, None]
        return given


def _find_label_type(classes: list[Any] | None) -> type | None:
    """Tell what to make of labels that graphs have as whole numbers."""
    types = set(map(type, classes or ()))
    return types.pop() if types in ({bool}, {float}) else None


def name_column(position: int) -> str:
    """Name the input of a graph for one column of a table."""
    return f"{INPUT}{position}"


def _check_numbers(values: Any, kind: str) -> Any:
    with np.errstate(over="raise"):
        narrow = values.astype(np.float32)
    return narrow if kind == _FLOAT32 else values


def _margins(shares: Any) -> Any:
    """Tell how far the likeliest class of each row is from the next."""
    if shares.shape[1] == 2:
        return np.abs(shares[:, 0] - shares[:, 1])
    highest = np.partition(shares, -2, axis=1)
    return highest[:, -1] - highest[:, -2]
