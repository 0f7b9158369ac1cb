"""Writes the nodes that an estimator becomes: what converters of our own have in common."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from onnx import TensorProto
from skl2onnx.common._registration import (
    get_converter,
    get_shape_calculator,
    register_converter,
    register_shape_calculator,
)
from skl2onnx.common.data_types import DoubleTensorType
from skl2onnx.common.utils_classifier import get_label_classes

ML: Final = "ai.onnx.ml"
_KINDS: Final = {"f": TensorProto.DOUBLE, "i": TensorProto.INT64, "S": TensorProto.STRING}


class Nodes:
    """The place of one estimator in the graph that skl2onnx makes, in float64 throughout."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self.model = operator.raw_operator
        self._scope = scope
        self._container = container
        self.given = operator.inputs
        self._outputs = operator.outputs

    @property
    def wants_scores(self) -> bool:
        """Whether the estimator around this one asks for scores instead of probabilities."""
        options = self._container.get_options(self.model, {"raw_scores": False})
        return bool(options["raw_scores"])

    def take(self, position: int = 0) -> str:
        """Take rows as float64."""
        given = self.given[position]
        name: str = given.full_name
        return name if _is_double(given) else self.add("Cast", [name], to=TensorProto.DOUBLE)

    def add(
        self, kind: str, inputs: list[str], version: int = 13, domain: str = "", **attributes: Any
    ) -> str:
        """Add a node, and return the name of what it makes."""
        output: str = self._scope.get_unique_variable_name(kind.lower())
        self._write(kind, inputs, output, version, domain, **attributes)
        return output

    def combine(self, X: str, weights: Any, bias: Any = None) -> str:
        """Multiply rows by a matrix and add a bias."""
        given = [values for values in (weights, bias) if values is not None]
        return self.add("Gemm", [X, *map(self.constant, given)])

    def answer(self, values: str, position: int = 0) -> None:
        """Hand on float64 values, in the precision of the graph."""
        output = self._outputs[position]
        if _is_double(output):
            self._write("Identity", [values], output.full_name)
        else:
            self._write("Cast", [values], output.full_name, to=TensorProto.FLOAT)

    def pass_on(self) -> None:
        """Hand on what is given as it is."""
        self._write("Identity", [self.given[0].full_name], self._outputs[0].full_name)

    def answer_label(self, scores: str) -> None:
        """Hand on, for each row, the class with the highest score."""
        classes = np.asarray(get_label_classes(self._scope, self.model))
        label = self.add("ArgMax", [scores], axis=1, keepdims=0)
        if classes.dtype.kind in "UO":
            label = self.add("Gather", [self.constant(encode(classes)), label])
        elif not np.array_equal(classes, np.arange(len(classes))):
            label = self.add("Gather", [self.constant(classes.astype(np.int64)), label])
        self._write("Identity", [label], self._outputs[0].full_name)

    def constant(self, values: Any) -> str:
        name: str = self._scope.get_unique_variable_name("constant")
        kind = _KINDS[values.dtype.kind]
        self._container.add_initializer(name, kind, list(values.shape), values.ravel().tolist())
        return name

    def _write(
        self,
        kind: str,
        inputs: list[str],
        output: str,
        version: int = 13,
        domain: str = "",
        **attributes: Any,
    ) -> None:
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(
            kind, inputs, output, op_domain=domain, op_version=version, name=name, **attributes
        )


def encode(texts: Any) -> Any:
    """Make the bytes that a constant of texts is of."""
    return np.char.encode(np.asarray(texts).astype(str), "utf-8")


def register(
    alias: str,
    takes: Callable[[Any], bool],
    write: Callable[[Nodes], None],
    shape: Callable[[Any], None] | None = None,
) -> None:
    """Have skl2onnx convert what we take with a function of ours, and the rest as usual.

    Our answers have the type of what is given, unless another function says what they are.
    """
    usual, usual_shapes = get_converter(alias), get_shape_calculator(alias)

    def convert(scope: Any, operator: Any, container: Any) -> None:
        if takes(operator.raw_operator):
            write(Nodes(scope, operator, container))
        else:
            usual(scope, operator, container)

    def calculate_shapes(operator: Any) -> None:
        usual_shapes(operator)
        numbers = operator.outputs[-1]
        if not takes(operator.raw_operator):
            return
        if shape is not None:
            shape(operator)
        elif _is_double(operator.inputs[0]):
            numbers.set_type(DoubleTensorType(numbers.type.shape))

    register_converter(alias, convert, overwrite=True, options=usual.get_allowed_options())
    register_shape_calculator(alias, calculate_shapes, overwrite=True)


def has_simple_classes(model: Any) -> bool:
    """Whether a classifier has one output, of at least two texts or numbers for whole ones."""
    classes = model.classes_
    if not isinstance(classes, np.ndarray) or len(classes) < 2:
        return False
    kind = classes.dtype.kind
    return kind in "iubUO" or (kind == "f" and bool((classes == np.round(classes)).all()))


def _is_double(variable: Any) -> bool:
    return isinstance(variable.type, DoubleTensorType)
