"""Makes an estimator from the bytes of a file, or refuses them: parse, judge, build, check."""

import re
from collections.abc import Callable
from typing import Final, TypeVar

from sklearn.base import BaseEstimator

from webapp.errors import ModelRejectedError
from webapp.ml.graph import neutralise
from webapp.ml.loading.allowed import NOTHING_MORE, Allowed
from webapp.ml.loading.checks import check_first_guesses, check_parts
from webapp.ml.loading.construct import Construction
from webapp.ml.loading.decompress import decompress
from webapp.ml.loading.opcodes import parse
from webapp.ml.loading.policy import load_policy
from webapp.ml.loading.refusals import invalid, rejected
from webapp.ml.loading.structure import check_sklearn_version, judge_nodes

T = TypeVar("T")
_VERSION: Final = re.compile(rb"_sklearn_version.{1,8}?(\d{1,3}\.\d{1,3}\.[\w.]{1,8})", re.DOTALL)


def load_estimator(data: bytes, allowed: Allowed = NOTHING_MORE) -> BaseEstimator:
    """Load an estimator from the bytes of a joblib file.

    Raises
    ------
    ModelRejectedError : the bytes are no such file, or hold what the policy does not allow
    """
    return load_with_version(decompress(data), allowed)[0]


def load_with_version(
    stream: bytes, allowed: Allowed = NOTHING_MORE
) -> tuple[BaseEstimator, str | None]:
    """Load an estimator from a joblib stream; tell the scikit-learn version it was saved with."""
    try:
        return guard(lambda: _load(stream, allowed))
    except ModelRejectedError as error:
        if error.details.get("reason") == "global_not_allowed":
            _blame_version(stream, allowed)
        raise


def _load(stream: bytes, allowed: Allowed) -> tuple[BaseEstimator, str | None]:
    root = parse(stream, load_policy(allowed.names).find)
    version = judge_nodes(root, allowed.sklearn_versions)
    loaded = Construction().make(root)
    if not isinstance(loaded, BaseEstimator):
        raise rejected(
            "not_an_estimator",
            f"the file holds a {type(loaded).__name__}, not a scikit-learn estimator;"
            " save the fitted model itself",
        )
    check_parts(loaded)
    neutralise(loaded)
    check_first_guesses(loaded)
    return loaded, version


def guard(step: Callable[[], T]) -> T:
    """Run a step over what the file made; whatever that makes it raise is a refusal."""
    try:
        return step()
    except ModelRejectedError:
        raise
    except (MemoryError, RecursionError) as error:
        raise rejected("limits", "the model needs more memory than it may take") from error
    # The bytes are somebody else's: no exception that they cause is a fault of ours.
    except Exception as error:
        raise invalid("it is damaged") from error


def _blame_version(stream: bytes, allowed: Allowed) -> None:
    """Say so when a name is unknown only because another scikit-learn wrote the file."""
    found = _VERSION.search(stream)
    if found:
        check_sklearn_version(found[1].decode("ascii", "replace"), allowed.sklearn_versions)
