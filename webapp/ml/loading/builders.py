"""Our own functions behind the names that a model file may call, and how state is filled in.

None of these trusts its arguments: they come from the file.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sklearn._loss._loss as losses
import sklearn.linear_model._sgd_fast as sgd_losses
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import _ball_tree, _kd_tree
from sklearn.tree._tree import NODE_DTYPE, Tree
from sklearn.utils.validation import check_array

from webapp.ml.loading.refusals import invalid

INDEXES: Final = (
    _ball_tree.BallTree,
    _ball_tree.BallTree32,
    _ball_tree.BallTree64,
    _kd_tree.KDTree,
    _kd_tree.KDTree32,
    _kd_tree.KDTree64,
)
_PLAIN: Final = (type(None), bool, int, float, str)
_MAX_OUTPUTS: Final = 100_000


@dataclass(frozen=True)
class Builder:
    """A name that may be called. It is not callable itself, so nothing else can call it."""

    build: Callable[..., Any]


class Dropped:
    """Stands for a random state: predictions need none, and its bytes are not to be trusted."""


def demand(condition: bool, what: str) -> None:
    """Refuse the file unless a fact about it holds."""
    if not condition:
        raise invalid(what)


def make_dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    """Make a data type; the copy is ours to set the byte order or the fields of."""
    demand(isinstance(code, str) and len(code) <= 16 and code.isalnum(), "odd data type")
    made: np.dtype[Any] = np.dtype(code, copy=True)
    return made


def set_dtype(dtype: np.dtype[Any], state: Any) -> None:
    """Give a data type its byte order or fields, as numpy itself would write them.

    The file's own state is never handed to numpy: its flags can hide object pointers.
    """
    order, subdtype, names, formats = state[1:5]
    demand(subdtype is None and order in ("<", ">", "|", "="), "odd data type")
    if names:
        demand(dtype.kind == "V" and len(names) <= 64, "odd data type")
        own = np.dtype(
            {
                "names": list(names),
                "formats": [formats[name][0] for name in names],
                "offsets": [formats[name][1] for name in names],
                "itemsize": dtype.itemsize,
            }
        )
        demand(not own.hasobject, "objects inside a structured array")
    elif dtype.kind in "mM" and len(state) > 8:
        unit, step = state[8][1][:2]
        own = np.dtype(f"{order}{dtype.kind}8[{step}{unit.decode('ascii')}]")
    else:
        own = dtype.newbyteorder(order)
    dtype.__setstate__(own.__reduce__()[2])  # type: ignore[attr-defined]


def make_array(kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    """Make the empty array that a state will fill."""
    demand(kind is np.ndarray and shape == (0,) and code in (b"b", "b"), "odd array")
    return np.ndarray((0,), "b")


def set_array(array: np.ndarray[Any, Any], state: Any) -> None:
    """Fill an array from a state whose parts agree with each other."""
    _, shape, dtype, fortran, content = state
    check_shape(shape)
    demand(isinstance(dtype, np.dtype), "odd array")
    if dtype.hasobject:
        demand(dtype.kind == "O" and type(content) is list, "odd array of objects")
        # numpy takes as many items as the shape says, also from a list that has fewer.
        demand(len(content) == math.prod(shape), "odd array of objects")
    else:
        demand(type(content) is bytes, "odd array")
    array.__setstate__((1, shape, dtype, bool(fortran), content))  # type: ignore[arg-type]


def check_shape(shape: Any) -> None:
    """Refuse anything but a short tuple of sizes."""
    demand(
        type(shape) is tuple
        and len(shape) <= 8
        and all(type(size) is int and 0 <= size < 2**40 for size in shape),
        "odd array shape",
    )


def view_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    """Make an array from the bytes that stand in the stream."""
    check_shape(shape)
    demand(type(content) in (bytes, bytearray) and isinstance(dtype, np.dtype), "odd array")
    demand(not dtype.hasobject and order in ("C", "F"), "odd array")
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def make_scalar(dtype: Any, content: Any) -> Any:
    """Make a numpy scalar."""
    demand(isinstance(dtype, np.dtype) and not dtype.hasobject, "odd number")
    demand(type(content) is bytes and len(content) == dtype.itemsize, "odd number")
    return np.frombuffer(content, dtype)[0]


def make_masked(kind: Any, base: Any, shape: Any, code: Any) -> Any:
    """Make the empty masked array that a state will fill."""
    demand(kind is np.ma.MaskedArray, "odd masked array")
    make_array(base, shape, code)
    return np.ma.MaskedArray.__new__(np.ma.MaskedArray, np.ndarray((0,), "b"))


def set_masked(array: Any, state: Any) -> None:
    """Fill a masked array; the results table of a search is made of them."""
    _, shape, dtype, fortran, content, mask, fill_value = state
    set_array(np.ndarray((0,), "b"), (1, shape, dtype, fortran, content))
    demand(type(mask) is bytes, "odd masked array")
    demand(isinstance(fill_value, (np.generic, np.ndarray, *_PLAIN)), "odd masked array")
    array.__setstate__((1, shape, dtype, bool(fortran), content, mask, fill_value))


def make_tree(n_features: Any, n_classes: Any, n_outputs: Any) -> Tree:
    """Make the empty decision tree that a state will fill."""
    demand(type(n_features) is int and 0 < n_features < 2**31, "odd decision tree")
    demand(type(n_outputs) is int and 0 < n_outputs <= _MAX_OUTPUTS, "odd decision tree")
    demand(isinstance(n_classes, np.ndarray) and n_classes.dtype == np.intp, "odd decision tree")
    demand(n_classes.shape == (n_outputs,), "odd decision tree")
    demand(bool(((n_classes > 0) & (n_classes <= _MAX_OUTPUTS)).all()), "odd decision tree")
    return Tree(n_features, n_classes, n_outputs)


def set_tree(tree: Tree, state: Any) -> None:
    """Fill a decision tree whose nodes lead down, to leaves, by features that exist.

    scikit-learn walks the nodes without looking: a wrong index reads foreign memory, a circle
    never ends.
    """
    nodes = state["nodes"]
    demand(isinstance(nodes, np.ndarray) and nodes.dtype == NODE_DTYPE, "odd decision tree")
    demand(nodes.ndim == 1 and len(nodes) > 0, "empty decision tree")
    demand(state["node_count"] == len(nodes), "odd decision tree")
    demand(type(state["max_depth"]) is int, "odd decision tree")
    left, right = nodes["left_child"], nodes["right_child"]
    inner = left != -1
    demand(bool((inner == (right != -1)).all()), "a decision tree's node with one child")
    own = np.arange(len(nodes))
    for child in (left, right):
        fits = (child > own) & (child < len(nodes))
        demand(bool(fits[inner].all()), "a decision tree's node with a child out of range")
    feature = nodes["feature"][inner]
    demand(
        bool(((feature >= 0) & (feature < tree.n_features)).all()),
        "a decision tree's feature out of range",
    )
    tree.__setstate__({key: state[key] for key in ("max_depth", "node_count", "nodes", "values")})


def make_index(cls: Any) -> Any:
    """Make the empty neighbour index that a state will fill."""
    demand(isinstance(cls, type) and issubclass(cls, INDEXES), "odd neighbour index")
    return cls.__new__(cls)


def set_index(index: Any, state: Any) -> None:
    """Build a neighbour index anew from its points: the stored one is only indexes and bounds."""
    points, leaf_size, metric, weights = state[0], state[4], state[11], state[12]
    demand(isinstance(points, np.ndarray) and points.ndim == 2, "odd neighbour index")
    demand(type(leaf_size) is int and leaf_size > 0, "odd neighbour index")
    demand(isinstance(metric, METRICS) and weights is None, "odd neighbour index")
    index.__init__(points, leaf_size=leaf_size, metric=metric)


def make_metric(cls: Any) -> Any:
    """Make the distance that a state will fill."""
    demand(isinstance(cls, type) and issubclass(cls, METRICS), "odd distance")
    return cls.__new__(cls)


def set_metric(metric: Any, state: Any) -> None:
    """Give a distance its exponent; those with weights or matrices are not taken."""
    power, weights = state[:2]
    demand(type(power) is float and power >= 1, "odd distance")
    demand(isinstance(weights, np.ndarray) and not weights.any(), "a distance with weights")
    metric.__setstate__((power, np.zeros(weights.size and 1), np.zeros((1, 1))))


def make_partial(function: Any) -> Any:
    """Make the one partial function of an honest file (gradient boosting with categories)."""
    demand(function is check_array, "a function with preset arguments")
    return functools.partial(check_array)


def set_partial(partial: Any, state: Any) -> None:
    """Preset plain arguments only."""
    function, args, kwargs, attributes = state
    demand(function is check_array and args == () and not attributes, "odd preset arguments")
    demand(type(kwargs) is dict and all(map(_is_plain, kwargs.values())), "odd preset arguments")
    partial.__setstate__((check_array, (), kwargs, None))


def _is_plain(value: Any) -> bool:
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) in _PLAIN or any(value is kind for kind in _FLOATS)


def check_sparse(matrix: Any) -> None:
    """Refuse a sparse matrix whose indexes lead out of it."""
    matrix.check_format(full_check=True)


def check_spline(spline: Any) -> None:
    """Refuse a spline whose coefficients are too few for its knots."""
    knots, coefficients, degree = spline.t, spline.c, spline.k
    demand(type(degree) is int and 0 <= degree <= 20, "odd spline")
    for array in (knots, coefficients):
        demand(isinstance(array, np.ndarray) and array.dtype == np.float64, "odd spline")
    demand(knots.ndim == 1 and len(knots) > 2 * degree + 1, "odd spline")
    demand(bool(np.isfinite(knots).all() and (np.diff(knots) >= 0).all()), "odd spline")
    demand(len(coefficients) >= len(knots) - degree - 1 and spline.axis == 0, "odd spline")


def _make_text(text: Any, encoding: Any) -> bytes:
    demand(type(text) is str and encoding == "latin1", "odd bytes")
    return bytes(text, "latin1")


def _make_loss(cls: Any) -> Callable[..., Any]:
    def build(*args: Any) -> Any:
        demand(all(type(arg) in (int, float) for arg in args), "odd loss function")
        return cls(*args)

    return build


def _plain_call(cls: Any, *types: type) -> Callable[..., Any]:
    def build(*args: Any) -> Any:
        demand(len(args) <= 3 and all(type(arg) in types for arg in args), f"odd {cls.__name__}")
        return cls(*args)

    return build


def _drop(*_args: Any) -> Dropped:
    return Dropped()


METRICS: Final = tuple(
    type(DistanceMetric.get_metric(name, dtype))
    for name in ("euclidean", "manhattan", "chebyshev", "minkowski")
    for dtype in (np.float32, np.float64)
)
_FLOATS: Final = (np.float32, np.float64)
_NUMPY: Final = ("numpy._core", "numpy.core")
_LOSSES: Final = (
    "CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss"
    " CyHalfPoissonLoss CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity"
    " CyHuberLoss CyPinballLoss"
)
_SGD_LOSSES: Final = "EpsilonInsensitive Hinge ModifiedHuber SquaredEpsilonInsensitive SquaredHinge"
BUILDERS: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("numpy", "dtype"): make_dtype,
    **{(f"{numpy}.multiarray", "_reconstruct"): make_array for numpy in _NUMPY},
    **{(f"{numpy}.multiarray", "scalar"): make_scalar for numpy in _NUMPY},
    **{(f"{numpy}.numeric", "_frombuffer"): view_buffer for numpy in _NUMPY},
    ("numpy.ma.core", "_mareconstruct"): make_masked,
    ("numpy.random._pickle", "__bit_generator_ctor"): _drop,
    ("numpy.random._pickle", "__generator_ctor"): _drop,
    ("numpy.random._pickle", "__randomstate_ctor"): lambda *_: np.random.RandomState(0),
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): _drop,
    ("_codecs", "encode"): _make_text,
    ("builtins", "slice"): _plain_call(slice, int, str, type(None)),
    ("builtins", "set"): _plain_call(set, list),
    ("builtins", "frozenset"): _plain_call(frozenset, list),
    ("builtins", "complex"): _plain_call(complex, float),
    ("builtins", "bytearray"): _plain_call(bytearray, bytes),
    ("functools", "partial"): make_partial,
    ("sklearn.tree._tree", "Tree"): make_tree,
    ("sklearn.neighbors._ball_tree", "newObj"): make_index,
    ("sklearn.neighbors._kd_tree", "newObj"): make_index,
    ("sklearn.metrics._dist_metrics", "newObj"): make_metric,
    **{
        ("sklearn._loss._loss", name): _make_loss(getattr(losses, name)) for name in _LOSSES.split()
    },
    ("sklearn._loss._loss", "__pyx_unpickle_CyHalfMultinomialLoss"): (
        lambda *_: losses.CyHalfMultinomialLoss()
    ),
    **{
        ("sklearn.linear_model._sgd_fast", name): _make_loss(getattr(sgd_losses, name))
        for name in _SGD_LOSSES.split()
    },
}
