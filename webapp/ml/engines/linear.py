"""Converts linear models to a graph that multiplies and adds in float64, as scikit-learn does.

skl2onnx writes their coefficients in float32, which is 10^-6 and more beside scikit-learn where
the features are large.
"""

from functools import cache
from typing import Any, Final

import numpy as np

from webapp.ml.engines.nodes import Nodes, has_simple_classes, register

_CLASSIFIERS: Final = ("SklearnLinearClassifier", "SklearnLinearSVC", "SklearnSGDClassifier")
_REGRESSORS: Final = ("SklearnLinearRegressor", "SklearnLinearSVR", "SklearnBayesianRidge")


@cache
def register_linear() -> None:
    """Have skl2onnx convert linear models with what is below."""
    for alias in _CLASSIFIERS:
        register(alias, _takes, _classify)
    for alias in _REGRESSORS:
        register(alias, lambda _: True, _regress)


def _takes(model: Any) -> bool:
    """Leave out several outputs, and probabilities that are of no logistic function."""
    binarizer = getattr(model, "_label_binarizer", None)
    return (
        has_simple_classes(model)
        and getattr(model, "loss", None) != "modified_huber"
        and (binarizer is None or not binarizer.y_type_.startswith("multilabel"))
    )


def _classify(nodes: Nodes) -> None:
    weights, bias = _coefficients(nodes.model)
    is_binary = len(bias) == 1
    if is_binary:
        weights, bias = np.concatenate([-weights, weights]), np.concatenate([-bias, bias])
    scores = nodes.combine(nodes.take(), weights.T, bias)
    nodes.answer_label(scores)
    if nodes.wants_scores or not hasattr(nodes.model, "predict_proba"):
        nodes.answer(scores, 1)
    elif is_binary:
        nodes.answer(nodes.add("Sigmoid", [scores]), 1)
    elif getattr(nodes.model, "loss", None) == "log_loss":
        nodes.answer(_share_out(nodes, scores, len(bias)), 1)
    else:
        nodes.answer(nodes.add("Softmax", [scores], axis=1), 1)


def _share_out(nodes: Nodes, scores: str, count: int) -> str:
    """Make logistic shares of one against the rest, and have them sum to one.

    Sigmoid is right to so many places after the point, whereas the sum may be 10^-100. Where next
    to nothing is left of all shares, rounding decides what they come to. Equal ones say so: the
    engine has scikit-learn answer for them.
    """
    axis, one, least, equal = map(
        nodes.constant,
        (np.array([1]), np.ones(1), np.full(1, 1e-290), np.full(1, 1 / count)),
    )
    odds_against = nodes.add("Exp", [nodes.add("Neg", [scores])])
    shares = nodes.add("Reciprocal", [nodes.add("Add", [odds_against, one], 14)])
    total = nodes.add("ReduceSum", [shares, axis])
    is_nothing = nodes.add("Less", [total, least])
    return nodes.add("Where", [is_nothing, equal, nodes.add("Div", [shares, total], 14)], 16)


def _regress(nodes: Nodes) -> None:
    weights, bias = _coefficients(nodes.model)
    nodes.answer(nodes.combine(nodes.take(), weights.T, bias))


def _coefficients(model: Any) -> tuple[Any, Any]:
    weights = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
    weights = np.atleast_2d(weights).astype(np.float64)
    return weights, np.broadcast_to(np.asarray(model.intercept_, np.float64), len(weights))
