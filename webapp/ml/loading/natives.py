"""Makes what scikit-learn has in compiled code: trees, indexes, distances, losses, sparse matrices.

Compiled code believes its state, so nothing of it is believed here: checked, or made anew.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import sklearn._loss._loss as losses
import sklearn.linear_model._sgd_fast as sgd_losses
from scipy.interpolate import BSpline
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import _ball_tree, _kd_tree
from sklearn.tree._tree import NODE_DTYPE, Tree
from sklearn.utils.validation import check_array

from webapp.ml.loading.arrays import PLAIN
from webapp.ml.loading.nodes import NO_STATE
from webapp.ml.loading.refusals import demand, invalid

MAX_OUTPUTS: Final = 100_000
MAX_SPLINE_DEGREE: Final = 20
INDEXES: Final = (
    *(_ball_tree.BallTree, _ball_tree.BallTree32, _ball_tree.BallTree64),
    *(_kd_tree.KDTree, _kd_tree.KDTree32, _kd_tree.KDTree64),
)
# Those without weights or matrices, whose sizes compiled code does not compare.
_METRIC_NAMES: Final = {
    type(DistanceMetric.get_metric(name, dtype, **parameters)): (name, dtype)
    for name, parameters in (
        ("euclidean", {}),
        ("manhattan", {}),
        ("chebyshev", {}),
        ("minkowski", {"p": 3}),  # with 2 it would be the first
    )
    for dtype in (np.float32, np.float64)
}
METRICS: Final = tuple(_METRIC_NAMES)


class Dropped:
    """Stands for a random state: predictions need none, and its bytes are not to be trusted."""


def make_tree(args: tuple[Any, ...], state: Any) -> Tree:
    """Make a decision tree whose nodes lead down, to leaves, by features that exist."""
    demand(len(args) == 3 and type(state) is dict, "an odd decision tree")
    n_features, n_classes, n_outputs = args
    demand(type(n_features) is int and 0 < n_features < 2**31, "an odd decision tree")
    demand(type(n_outputs) is int and 0 < n_outputs <= MAX_OUTPUTS, "an odd decision tree")
    _check_counts(n_classes, n_outputs)
    nodes, values = state.get("nodes"), state.get("values")
    demand(isinstance(nodes, np.ndarray) and nodes.dtype == NODE_DTYPE, "an odd decision tree")
    demand(nodes.ndim == 1 and len(nodes) > 0, "an empty decision tree")
    demand(state.get("node_count") == len(nodes), "a decision tree of another length")
    demand(
        isinstance(values, np.ndarray) and values.dtype == np.float64, "a decision tree's values"
    )
    shape = (len(nodes), n_outputs, int(n_classes.max()))
    demand(values.shape == shape, "a decision tree's values have another shape")
    depth = check_branches(
        nodes["left_child"], nodes["right_child"], nodes["left_child"] == -1, "decision tree"
    )
    max_depth = state.get("max_depth")
    demand(type(max_depth) is int and depth <= max_depth <= len(nodes), "an odd depth of a tree")
    check_features(nodes["feature"][nodes["left_child"] != -1], n_features, "decision tree")
    tree = Tree(n_features, n_classes, n_outputs)
    tree.__setstate__(
        {"max_depth": depth, "node_count": len(nodes), "nodes": nodes, "values": values}
    )
    return tree


def _check_counts(n_classes: Any, n_outputs: int) -> None:
    demand(isinstance(n_classes, np.ndarray) and n_classes.dtype == np.intp, "odd class counts")
    demand(n_classes.shape == (n_outputs,), "odd class counts")
    demand(bool(((n_classes > 0) & (n_classes <= MAX_OUTPUTS)).all()), "odd class counts")


def check_branches(left: Any, right: Any, is_leaf: Any, what: str) -> int:
    """Demand that the nodes form one tree that is walked downwards; return its depth.

    A child out of range reads foreign memory, a circle never ends: both in compiled code.
    """
    count = len(left)
    inner = np.flatnonzero(~is_leaf)
    children = np.concatenate([left[inner], right[inner]]).astype(np.int64)
    own = np.concatenate([inner, inner])
    fits = (children > own) & (children < count)
    demand(bool(fits.all()), f"a {what}'s node has a child out of range", "tree_out_of_range")
    once = len(children) == count - 1 and bool((np.bincount(children, minlength=1) <= 1).all())
    demand(once, f"a {what}'s node has two parents or none", "tree_out_of_range")
    if what == "decision tree":
        ends = (left[is_leaf] == -1) & (right[is_leaf] == -1)
        demand(bool(ends.all()), f"a {what}'s node has one child", "tree_out_of_range")
    return _measure_depth(left, right, is_leaf)


def _measure_depth(left: Any, right: Any, is_leaf: Any) -> int:
    depth, level = 0, np.zeros(1, dtype=np.intp)
    while True:
        level = level[~is_leaf[level]]
        if not len(level):
            return depth
        level = np.concatenate([left[level], right[level]]).astype(np.intp)
        depth += 1


def check_features(features: Any, n_features: int, what: str) -> None:
    """Demand that nodes ask for features that a row has."""
    fits = (features >= 0) & (features < n_features)
    demand(bool(fits.all()), f"a {what}'s node asks for no feature", "tree_out_of_range")


def make_index(args: tuple[Any, ...], state: Any) -> Any:
    """Build a neighbour index anew from its points: the stored one is indexes and bounds."""
    demand(len(args) == 1 and args[0] in INDEXES, "an odd neighbour index")
    demand(type(state) is tuple and len(state) > 12, "an odd neighbour index")
    points, leaf_size, metric, weights = state[0], state[4], state[11], state[12]
    demand(isinstance(points, np.ndarray) and points.ndim == 2, "an odd neighbour index")
    demand(points.dtype in (np.float32, np.float64) and points.size > 0, "an odd neighbour index")
    demand(type(leaf_size) is int and leaf_size > 0, "an odd neighbour index")
    demand(isinstance(metric, METRICS), "a neighbour index with an odd distance")
    if weights is not None:
        demand(isinstance(weights, np.ndarray) and weights.shape == points.shape[:1], "odd weights")
    return args[0](points, leaf_size=leaf_size, metric=metric, sample_weight=weights)


def make_metric(args: tuple[Any, ...], state: Any) -> Any:
    """Make a distance, of which only the exponent is taken."""
    demand(len(args) == 1 and args[0] in METRICS, "an odd distance")
    demand(type(state) is tuple and len(state) >= 2, "an odd distance")
    power, weights = state[:2]
    demand(type(power) is float and power >= 1, "an odd distance")
    demand(isinstance(weights, np.ndarray) and not weights.any(), "a distance with weights")
    name, dtype = _METRIC_NAMES[args[0]]
    parameters = {"p": power} if name == "minkowski" else {}
    return DistanceMetric.get_metric(name, dtype, **parameters)


def make_partial(args: tuple[Any, ...], state: Any) -> Any:
    """Make the one partial function of honest files: how boosting checks its categories."""
    demand(len(args) == 1 and args[0] is check_array, "a function with preset arguments")
    demand(type(state) is tuple and len(state) == 4, "odd preset arguments")
    _, positional, named, attributes = state
    demand(positional == () and not attributes, "odd preset arguments")
    demand(type(named) is dict and all(map(_is_plain, named.values())), "odd preset arguments")
    return functools.partial(check_array, **named)


def _is_plain(value: Any) -> bool:
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) in PLAIN or value in (np.float32, np.float64)


def make_sparse(cls: Any) -> Callable[..., Any]:
    """Make a builder of sparse matrices whose indexes lie inside."""

    def build(args: tuple[Any, ...], state: Any) -> Any:
        demand(type(state) is dict, "an odd sparse matrix")
        parts = [state.get(name) for name in ("data", "indices", "indptr")]
        demand(
            all(isinstance(part, np.ndarray) and part.ndim == 1 for part in parts),
            "an odd sparse matrix",
        )
        demand(parts[0].dtype.kind in "biufc", "an odd sparse matrix")
        demand(all(part.dtype in (np.int32, np.int64) for part in parts[1:]), "odd sparse indexes")
        shape = state.get("_shape")
        demand(type(shape) is tuple and len(shape) == 2, "an odd sparse matrix")
        demand(all(_is_size(size) for size in shape), "an odd sparse matrix")
        # SciPy's full check is not: it takes an empty matrix on trust, and its differences of
        # neighbours overflow. Both were crashes (found by the fuzzer).
        starts = parts[2]
        is_rising = len(starts) > 0 and starts[0] == 0 and (starts[1:] >= starts[:-1]).all()
        demand(
            bool(is_rising) and starts[-1] <= min(len(parts[0]), len(parts[1])),
            "a sparse matrix's index leads out of it",
            "array_out_of_range",
        )
        try:
            matrix = cls(tuple(parts), shape=shape)
            matrix.check_format(full_check=True)
        except ValueError:
            raise invalid("a sparse matrix's index leads out of it", "array_out_of_range") from None
        return matrix

    return build


def _is_size(size: Any) -> bool:
    return isinstance(size, (int, np.integer)) and bool(0 <= size < 2**31)


def make_spline(args: tuple[Any, ...], state: Any) -> BSpline:
    """Make a spline with enough coefficients for its knots."""
    demand(type(state) is dict, "an odd spline")
    knots, coefficients, degree = (state.get(name) for name in ("_t", "_c", "k"))
    demand(type(degree) is int and 0 <= degree <= MAX_SPLINE_DEGREE, "an odd spline")
    for array in (knots, coefficients):
        demand(isinstance(array, np.ndarray) and array.dtype == np.float64, "an odd spline")
    demand(knots.ndim == 1 and len(knots) > 2 * degree + 1, "too few knots in a spline")
    demand(bool(np.isfinite(knots).all() and (np.diff(knots) >= 0).all()), "odd knots in a spline")
    enough = coefficients.ndim >= 1 and len(coefficients) >= len(knots) - degree - 1
    demand(enough, "too few coefficients in a spline", "array_out_of_range")
    demand(state.get("axis", 0) == 0, "an odd spline")
    extrapolate = state.get("extrapolate")
    demand(extrapolate in (True, False, "periodic"), "an odd spline")
    return BSpline(knots, coefficients, degree, extrapolate=extrapolate)


def make_loss(cls: Any) -> Callable[..., Any]:
    """Make a builder of a loss function from plain numbers."""

    def build(args: tuple[Any, ...], state: Any) -> Any:
        demand(len(args) <= 3 and all(type(arg) in (int, float) for arg in args), "an odd loss")
        demand(state in (NO_STATE, None), "an odd loss")
        return cls(*args)

    return build


def make_plain(cls: Any, *types: type, at_most: int = 1) -> Callable[..., Any]:
    """Make a builder of one of Python's own types."""

    def build(args: tuple[Any, ...], state: Any) -> Any:
        plain = len(args) <= at_most and all(type(arg) in types for arg in args)
        demand(plain and state is NO_STATE, f"an odd {cls.__name__}")
        return cls(*args)

    return build


def make_bytes(args: tuple[Any, ...], state: Any) -> bytes:
    """Make bytes as protocol 2 writes them: text, in an encoding."""
    demand(len(args) == 2 and type(args[0]) is str and args[1] == "latin1", "odd bytes")
    try:
        return bytes(args[0], "latin1")
    except UnicodeEncodeError:
        raise invalid("odd bytes") from None


def make_multinomial_loss(args: tuple[Any, ...], state: Any) -> Any:
    """Make the one loss function that pickles in Cython's own way."""
    return losses.CyHalfMultinomialLoss()


def make_random_state(args: tuple[Any, ...], state: Any) -> np.random.RandomState:
    """Make a fresh generator: the place in its sequence is an unchecked index into its state."""
    return np.random.RandomState(0)


def make_generator(args: tuple[Any, ...], state: Any) -> np.random.Generator:
    """Make a fresh generator of the newer kind, for the same reason."""
    return np.random.default_rng(0)


def drop(args: tuple[Any, ...], state: Any) -> Dropped:
    """Drop a part of a random generator."""
    return Dropped()


_LOSSES: Final = (
    "CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss"
    " CyHalfPoissonLoss CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity"
    " CyHuberLoss CyPinballLoss"
)
_SGD_LOSSES: Final = "EpsilonInsensitive Hinge ModifiedHuber SquaredEpsilonInsensitive SquaredHinge"
LOSSES: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    **{("sklearn._loss._loss", name): make_loss(getattr(losses, name)) for name in _LOSSES.split()},
    **{
        ("sklearn.linear_model._sgd_fast", name): make_loss(getattr(sgd_losses, name))
        for name in _SGD_LOSSES.split()
    },
}
