"""Why an uploaded file is refused: one stable code each, and a message that helps its owner."""

from typing import Any, Literal

from webapp.errors import ModelRejectedError

Reason = Literal[
    "global_not_allowed",
    "truncated",
    "trailing_bytes",
    "not_an_estimator",
    "not_fitted",
    "wrong_sklearn_version",
    "limits",
    "too_large",
    "invalid_file",
    "unsafe_parameter",
    "smoke_prediction_failed",
]


def rejected(reason: Reason, message: str, **details: Any) -> ModelRejectedError:
    """Make the error of a refused upload."""
    return ModelRejectedError(message, {"reason": reason, **details})


def invalid(message: str) -> ModelRejectedError:
    """Make the error of a file that no honest scikit-learn writes."""
    return rejected("invalid_file", f"this is not a model saved by joblib.dump: {message}")


def global_refused(module: str, name: str) -> ModelRejectedError:
    """Make the error of a file that names something outside the policy."""
    shown = ascii(f"{module}.{name}")[1:-1][:80]
    advice = "build the model from scikit-learn's own classes, or ask the operator to trust it"
    if module.startswith("scipy.stats"):
        advice = "save the search's best_estimator_ instead of the whole search"
    return rejected(
        "global_not_allowed",
        f"the file uses {shown}, which is not loaded here; {advice}",
        **{"global": shown},
    )
