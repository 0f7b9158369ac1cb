"""Whatever scikit-learn can fit is loaded, however it was saved, and answers as the original."""

import io
from typing import Any

import joblib
import numpy as np
import pytest

from tests.estimators import dump
from tests.unit.ml import zoo
from webapp.ml.loading import load_estimator

# joblib itself copies their arrays into another layout or alignment, which rounds sums differently.
AS_JOBLIB_LOADS_THEM = {"KernelRidge", "LabelPropagation", "LabelSpreading", "neighbours, cosine"}
COMPRESSIONS: list[Any] = [0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)]


def same(one: Any, other: Any) -> bool:
    """Whether two answers are equal to the last bit."""
    if isinstance(one, str):
        return one == other
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    one, other = (x.toarray() if hasattr(x, "toarray") else np.asarray(x) for x in (one, other))
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")


def check(name: str, estimator: Any, X: Any, data: bytes) -> None:
    """Demand that the loaded estimator answers all that the original answers."""
    if name in AS_JOBLIB_LOADS_THEM:
        estimator = joblib.load(io.BytesIO(data))
    expected, answers = dict(zoo.ask(estimator, X)), dict(zoo.ask(load_estimator(data), X))
    assert [method for method in expected if not same(expected[method], answers[method])] == []


@pytest.mark.parametrize("name", zoo.names())
def test_an_estimator_answers_as_the_original(name: str) -> None:
    estimator, X = zoo.fitted(name)
    for protocol in (2, 3, 4, 5):
        check(name, estimator, X, dump(estimator, protocol=protocol))


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_what_people_build_of_estimators_answers_as_the_original(compress: Any) -> None:
    # Each is saved in one way, since the ways do not depend on what is saved.
    share = list(zoo.compositions().items())[COMPRESSIONS.index(compress) :: len(COMPRESSIONS)]
    for name, (estimator, X) in share:
        for protocol in (2, 5):
            check(name, estimator, X, dump(estimator, protocol=protocol, compress=compress))


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_every_compression_of_every_protocol_is_read(compress: Any) -> None:
    name = "columns of a frame"
    estimator, X = zoo.compositions()[name]
    for protocol in (2, 3, 4, 5):
        check(name, estimator, X, dump(estimator, protocol=protocol, compress=compress))


def test_lz4_is_read_where_its_package_is() -> None:
    pytest.importorskip("lz4")
    estimator, X = zoo.compositions()["pipeline"]
    check("pipeline", estimator, X, dump(estimator, compress=("lz4", 3)))
