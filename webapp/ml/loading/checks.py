"""Checks that the parts of a whole model fit each other.

Compiled code reads by the indexes that it finds in these arrays, and mostly does not look whether
they lie inside: a wrong one reads foreign memory, crashes a worker or answers nonsense.
"""

from functools import partial
from types import FunctionType
from typing import Any, Final

import numpy as np
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.gaussian_process.kernels import Kernel
from sklearn.metrics import DistanceMetric

from webapp.ml.graph import walk
from webapp.ml.loading.arrays import is_count
from webapp.ml.loading.column_checks import COLUMN_CHECKS
from webapp.ml.loading.refusals import demand, rejected
from webapp.ml.loading.row_checks import ROW_CHECKS
from webapp.ml.loading.tree_checks import TREE_CHECKS, check_boosting_start

MAX_FEATURES: Final = 1_000_000


def check_parts(root: Any) -> None:
    """Refuse a model in whose parts an index leads out of an array, or that would call something.

    Raises
    ------
    ModelRejectedError : what does not fit
    """
    parts = list(walk(root))
    for part in parts:
        width = getattr(part, "n_features_in_", 1)
        demand(is_count(width, MAX_FEATURES), "an odd width", "limits")
        _check_callables(part)
        for cls, check in (*TREE_CHECKS, *ROW_CHECKS, *COLUMN_CHECKS):
            if isinstance(part, cls):
                check(part)
    # Asks a part for a prediction, hence after all of them were looked at.
    for part in parts:
        if isinstance(part, BaseGradientBoosting):
            check_boosting_start(part)


def _check_callables(part: Any) -> None:
    """Demand that nothing but numpy's functions is called while predicting."""
    for attribute, allowed in _CALLED_WHILE_PREDICTING.items():
        value = vars(part).get(attribute)
        if callable(value) and not isinstance(value, allowed):
            raise rejected(
                "unsafe_parameter",
                f"the parameter {attribute} must be the name of a method, not an object that is"
                " called",
                parameter=attribute,
            )


_CALLED_WHILE_PREDICTING: Final[dict[str, tuple[type, ...]]] = {
    "affinity": (),
    "effective_metric_": (DistanceMetric,),
    # A partial function is only ever made of check_array.
    "func": (np.ufunc, FunctionType, partial),
    "inverse_func": (np.ufunc, FunctionType),
    "importance_getter": (),
    "kernel": (Kernel,),
    "kernel_": (Kernel,),
    "metric": (DistanceMetric,),
    "weights": (),
}
