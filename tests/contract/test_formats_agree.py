"""Predictions by every engine, in every format and protocol, are the estimator's own."""

import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

from tests import database, estimators
from tests.contract import wire
from tests.contract.wire import Client, Table
from tests.unit.ml import zoo
from tests.world import World, kept_logging

PATIENCE_SECONDS = 60
AT_LEAST_ON_ONNX = 40

# What cannot be served, and why an upload of it is refused.
REFUSED = {
    "HalvingGridSearchCV": "global_not_allowed",
    "HalvingRandomSearchCV": "global_not_allowed",
    "IsotonicRegression": "not_fitted",  # it does not say how many features it takes
    "isotonic, clipping": "not_fitted",
    "dicts": "not_fitted",
    "LocalOutlierFactor": "not_an_estimator",  # it predicts for its own rows only
    "RadiusNeighborsClassifier": "smoke_prediction_failed",  # an ordinary row has no neighbours
    "single precision": "smoke_prediction_failed",  # this one takes no others
}


def words_and_numbers() -> tuple[Any, Any]:
    """Numbers and a column of text, by name."""
    frame = pd.DataFrame(
        {
            "note": [
                f'a {"long" if length > 5.8 else "short"}, "fine" one' for length in zoo.X[:, 0]
            ],
            "width": zoo.X[:, 1],
        }
    )
    columns = ColumnTransformer(
        [("note", TfidfVectorizer(), "note"), ("width", StandardScaler(), ["width"])]
    )
    return make_pipeline(columns, LogisticRegression()).fit(frame, zoo.Y), frame


def cancer() -> tuple[Any, Any]:
    """Thirty numbers by name."""
    return estimators.cancer_forest(), estimators.load_breast_cancer(as_frame=True).data


def wine() -> tuple[Any, Any]:
    """Numbers, one of them missing, and a category, by name."""
    return estimators.wine_columns(), estimators.wine_frame()


OWN = {fit.__name__: fit for fit in (words_and_numbers, cancer, wine)}
PREDICTING = [name for name, cls in all_estimators() if hasattr(cls, "predict")]
COMPOSED = [name for name, (made, _) in zoo.compositions().items() if hasattr(made, "predict")]
KINDS = [name for name in (*PREDICTING, *COMPOSED, *OWN) if name not in REFUSED]
# One of each sort, for where a kind costs more: see tests/process.
SOME = ("HistGradientBoostingClassifier", "MultiOutputRegressor", "text", "words_and_numbers")


@cache
def fitted(kind: str) -> tuple[Any, Any]:
    """Fit one kind, and choose the rows to ask about: no neighbours, holes among them."""
    if kind in OWN:
        estimator, X = OWN[kind]()
    else:
        compositions = zoo.compositions()
        estimator, X = compositions[kind] if kind in compositions else zoo.fitted(kind)
    if isinstance(X, pd.DataFrame):
        return estimator, X.iloc[::13]
    if isinstance(X, list):
        return estimator, X[::13]
    # Requests have dense numbers in double precision.
    return estimator, np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=float)[::13]


def expected(kind: str) -> Any:
    """Ask the estimator itself."""
    estimator, X = fitted(kind)
    return np.asarray(estimator.predict(X)).tolist()


@cache
def table(kind: str) -> Table:
    """Write the same rows in JSON values."""
    X = fitted(kind)[1]
    if isinstance(X, list):
        return Table([[text] for text in X], None, numeric=False)
    names = [str(name) for name in X.columns] if hasattr(X, "columns") else None
    values = (X.to_numpy(dtype=object) if names else X).tolist()
    rows = [[None if value != value else value for value in row] for row in values]
    numeric = not any(isinstance(value, str) for row in rows for value in row)
    return Table(rows, names, numeric)


def has_holes(kind: str) -> bool:
    """Tell whether values are missing in the rows."""
    return any(value is None for row in table(kind).rows for value in row)


def check(client: Client, kind: str, form: Any, own: Any) -> None:
    """Demand the same predictions from a format, to the last bit."""
    answer = form(client, table(kind))
    assert answer == (in_text(own) if form is wire.csv_out else own), form.__name__


def in_text(own: Any) -> Any:
    """Write predictions as CSV has them."""
    return [list(map(str, row)) if isinstance(row, list) else str(row) for row in own]


def check_engine(answer: Any, own: Any) -> None:
    """Demand of another engine identical labels, and values within a millionth."""
    if np.asarray(own).dtype.kind == "f":
        assert np.asarray(answer) == pytest.approx(np.asarray(own), rel=1e-6, abs=1e-6)
    else:
        assert orjson.dumps(answer) == orjson.dumps(own)  # 1 is not 1.0 there


def formats(kind: str) -> list[Any]:
    """All formats but objects by name for a model that knows no names."""
    own = table(kind)
    return [form for form in wire.FORMATS if form is not wire.json_objects or own.names]


def served(world: World, kind: str) -> tuple[str, dict[str, Any]]:
    """Upload a kind if that was not done yet; return its name and what it was compiled to."""
    name = f"m{KINDS.index(kind)}"
    if world.call("GET", f"models/{name}", world.owner).status_code == 404:
        # Compressed: the test client leaves open the file that a large body becomes.
        uploaded = world.upload(name, estimators.dump(fitted(kind)[0], compress=3))
        assert uploaded.status_code == 201, uploaded.text
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        model = world.call("GET", f"models/{name}", world.owner).json["data"]
        compilation: dict[str, Any] | None = model["versions"][0]["passport"]["compilation"]
        if compilation is not None:
            return name, compilation
        time.sleep(0.02)
    raise AssertionError("not compiled in time")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A program that compiles, whose owner uploads the kinds as they are asked for."""
    with kept_logging(), database.migrated(tmp_path_factory.mktemp("formats-db")) as url:
        world = World(tmp_path_factory.mktemp("formats"), url, engine="auto")
        yield world
        world.close()


# Some warn of what was ignored when they were fitted.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_estimators_own_predictions_by_every_engine(
    everything: World, kind: str
) -> None:
    name, compilation = served(everything, kind)

    def post(path: str, content: bytes, params: Any, headers: Any) -> tuple[Any, bytes]:
        response = everything.call(
            "POST", f"/{path}", everything.owner, data=content, query_string=params, headers=headers
        )
        assert response.status_code == 200, response.text
        return response.headers, response.data

    own = expected(kind)
    original, chosen = Client(post, name, {"engine": "sklearn"}), Client(post, name)
    for form in formats(kind):
        check(original, kind, form, own)
    answer = wire.json_lists(chosen, table(kind))
    check_engine(answer, own)
    for form in formats(kind):
        check(chosen, kind, form, answer)

    lines = everything.events(event_type="prediction", model_name=name)
    engines = Counter(line["engine"] for line in lines)
    proven = compilation["engine"] == "onnx" and (compilation["takes_nan"] or not has_holes(kind))
    asked = len(formats(kind))
    on_onnx = asked + 1 if proven else 0
    assert (engines["sklearn"], engines["onnx"]) == (2 * asked + 1 - on_onnx, on_onnx)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_served_is_refused(everything: World, kind: str) -> None:
    response = everything.upload("refused", fitted(kind)[0])
    assert response.status_code == 422
    assert response.json["details"]["reason"] == REFUSED[kind]


def test_there_are_enough_kinds(everything: World) -> None:
    assert len(set(KINDS)) == len(KINDS)
    engines = [served(everything, kind)[1]["engine"] for kind in KINDS]
    assert engines.count("onnx") >= AT_LEAST_ON_ONNX
    assert len(wire.FORMATS) == 13
