"""Checks that the parts of a whole model fit each other.

Compiled code reads by the indexes that it finds in these arrays, and mostly does not look whether
they lie inside: a wrong one reads foreign memory, crashes a worker or answers nonsense.
"""

from functools import partial
from types import FunctionType
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import VotingClassifier
from sklearn.ensemble._gb import BaseGradientBoosting
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process.kernels import Kernel
from sklearn.metrics import DistanceMetric

from webapp.ml.graph import walk
from webapp.ml.loading.arrays import is_count
from webapp.ml.loading.column_checks import COLUMN_CHECKS, MAX_COLUMNS, MAX_MADE_COLUMNS
from webapp.ml.loading.refusals import OUT, demand, rejected
from webapp.ml.loading.row_checks import ROW_CHECKS
from webapp.ml.loading.tree_checks import TREE_CHECKS, check_first_guess

# Numbers that become the size of an array while predicting.
_SIZES: Final = {
    "n_components": MAX_MADE_COLUMNS,
    "n_features_in_": MAX_COLUMNS,
    "n_outputs_": MAX_COLUMNS,
    "sample_steps": MAX_MADE_COLUMNS,
}


def check_parts(root: Any) -> None:
    """Refuse a model in whose parts an index leads out of an array, or that would call something.

    Raises
    ------
    ModelRejectedError : what does not fit
    """
    for part in walk(root):
        _check_sizes(part)
        _check_callables(part)
        for cls, check in (*TREE_CHECKS, *ROW_CHECKS, *COLUMN_CHECKS):
            if isinstance(part, cls):
                check(part)
        if isinstance(part, VotingClassifier) and part.voting == "hard":
            _check_votes(part)
        if isinstance(part, FrozenEstimator):
            # It looks up whatever it lacks in what is frozen, and that in itself, without end.
            demand(isinstance(vars(part).get("estimator"), BaseEstimator), "nothing is frozen")
        _check_classes(part)


def check_first_guesses(root: Any) -> None:
    """Ask parts for predictions, hence after all were looked at and made harmless."""
    for part in walk(root):
        if isinstance(part, BaseGradientBoosting):
            check_first_guess(part)


def _check_sizes(part: Any) -> None:
    known = vars(part)
    for name, most in _SIZES.items():
        size = known.get(name)
        # Some may also be a share, or the name of a rule.
        is_size = size is not None and not isinstance(size, (str, float, np.floating))
        demand(not is_size or is_count(size, most), f"an odd {name}", "limits")


def _check_classes(part: Any) -> None:
    known = vars(part)
    if "n_classes_" in known and "classes_" in known:
        labels = known["classes_"]
        counts = [len(each) for each in (labels if type(labels) is list else [labels])]
        same = np.atleast_1d(known["n_classes_"]).tolist() == counts
        demand(same, "other classes than counted", OUT)


def _check_votes(voting: Any) -> None:
    """Demand that no member votes for a class beyond the last: votes are counted up to there."""
    for part in walk(getattr(voting, "estimators_", ())):
        labels = vars(part).get("classes_")
        for each in labels if type(labels) is list else [labels]:
            if isinstance(each, np.ndarray) and each.dtype.kind in "iu":
                inside = bool(((each >= 0) & (each < len(voting.classes_))).all())
                demand(inside, "a vote out of range", OUT)


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
