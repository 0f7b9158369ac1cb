"""From the bytes of an upload to a fitted estimator, or to a refusal that says why."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from webapp.ml.loading.allowed import NOTHING_MORE, Allowed
from webapp.ml.loading.parent import compile_model, judge, share

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

__all__ = [
    "POLICY_VERSION",
    "TERMS",
    "Allowed",
    "compile_model",
    "judge",
    "load_estimator",
    "share",
]

# To be raised with every change of what is accepted: stored models are then judged again.
POLICY_VERSION: Final = 4
TERMS: Final = f"policy {POLICY_VERSION}, scikit-learn {version('scikit-learn')}"


def load_estimator(data: bytes, allowed: Allowed = NOTHING_MORE) -> "BaseEstimator":
    """Load a fitted estimator from the bytes of a joblib file.

    Raises
    ------
    ModelRejectedError : the bytes are no such file, or hold what the policy does not allow
    """
    # Importing scikit-learn takes a second, which who only wants to judge need not wait for.
    from webapp.ml.loading.loader import load_estimator as load  # noqa: PLC0415

    return load(data, allowed)
