"""Why an uploaded file is refused: one stable code each, and a message that helps its owner."""

from typing import Any, Final, Literal

from webapp.errors import ModelRejectedError

Reason = Literal[
    "array_out_of_range",
    "decompression_limit",
    "global_not_allowed",
    "invalid_file",
    "limits",
    "not_an_estimator",
    "not_fitted",
    "opcode_not_allowed",
    "smoke_prediction_failed",
    "trailing_bytes",
    "tree_out_of_range",
    "truncated",
    "unsafe_parameter",
    "wrong_sklearn_version",
]

OUT: Final = "array_out_of_range"
# What the documentation of `make_column_selector` selects columns by.
_DTYPES: Final = frozenset(
    (
        *("builtins.bool", "builtins.float", "builtins.int", "builtins.object", "builtins.str"),
        *("numpy.bool", "numpy.floating", "numpy.integer", "numpy.number", "numpy.object_"),
    )
)


def rejected(reason: Reason, message: str, **details: Any) -> ModelRejectedError:
    """Make the error of a refused upload."""
    return ModelRejectedError(message, {"reason": reason, **details})


def demand(condition: bool, what: str, reason: Reason = "invalid_file") -> None:
    """Refuse the file unless a fact about it holds."""
    if not condition:
        raise invalid(what, reason)


def invalid(message: str, reason: Reason = "invalid_file") -> ModelRejectedError:
    """Make the error of a file that no honest scikit-learn writes."""
    return rejected(reason, f"this is not a model saved by joblib.dump: {message}")


def truncated() -> ModelRejectedError:
    """Make the error of a file that lacks its end."""
    return rejected("truncated", "the file ends too early; save and upload it again")


def trailing() -> ModelRejectedError:
    """Make the error of a file with something behind the model."""
    return rejected("trailing_bytes", "the file goes on after the model; save it again, alone")


def over_limit(what: str, limit: int) -> ModelRejectedError:
    """Make the error of a file that would cost too much."""
    return rejected("limits", f"the model has more than {limit} {what}; upload a smaller one")


def global_refused(module: str, name: str) -> ModelRejectedError:
    """Make the error of a file that names something outside the policy."""
    shown = show(f"{module}.{name}")
    advice = "build the model from scikit-learn's own classes, or ask the operator to trust it"
    if module.startswith("scipy.stats"):
        advice = "save the search's best_estimator_ instead of the whole search"
    elif f"{module}.{name}" in _DTYPES:
        advice = "name a dtype as text, such as 'number' or 'object', and not by its class"
    return rejected(
        "global_not_allowed",
        f"the file uses {shown}, which is not loaded here; {advice}",
        **{"global": shown},
    )


def show(text: str) -> str:
    """Make text from a file fit to be shown: ASCII, escaped, at most 80 characters."""
    return ascii(text)[1:-1][:80]
