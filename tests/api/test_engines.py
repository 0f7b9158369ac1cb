"""A model that is proven equal on a faster engine is served by it; the others say why not."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tests import database
from tests.estimators import (
    cancer_forest,
    description_text,
    dumped,
    iris_pipeline,
    wine_columns,
    wine_frame,
)
from tests.world import PASSWORD, Event, Person, World, kept_logging

X = load_iris().data
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def _compiling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with kept_logging(), database.migrated(tmp_path_factory.mktemp("engines-db")) as url:
        made = World(tmp_path_factory.mktemp("engines"), url, engine="auto")
        yield made
        made.close()


@pytest.fixture
def compiling(_compiling: World) -> Iterator[World]:
    """A program that compiles what is uploaded."""
    with _compiling.logging():
        yield _compiling


def compilation(world: World, reference: str, person: Person | None = None) -> dict[str, Any]:
    """Wait for what came of compiling the newest version of a model."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        model = world.call("GET", f"models/{reference}", person or world.owner).json["data"]
        found: dict[str, Any] | None = model["versions"][-1]["passport"]["compilation"]
        if found is not None:
            return found
        time.sleep(0.05)
    raise AssertionError("not compiled in time")


def engine_of(world: World, response: Any) -> str:
    """Tell which engine answered, from the log."""
    (prediction,) = world.events(response, event_type="prediction")
    engine: str = prediction["engine"]
    return engine


def upload(world: World, name: str, estimator: Any) -> dict[str, Any]:
    """Upload a model that nothing has been compiled of."""
    response = world.upload(name, estimator)
    assert response.status_code == 201
    assert response.json["data"]["passport"]["compilation"] is None
    return compilation(world, name)


def compiled(world: World, count: int, **fields: str) -> list[Event]:
    """Wait for so many lines about what came of compiling: they follow what they tell."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(lines := world.events(**fields)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return lines


def graphs(world: World) -> list[Path]:
    """List the stored graphs."""
    return sorted((world.settings.instance_path / "models").glob("*/*.onnx"))


def stored(world: World) -> list[Path]:
    """List the files of models and of uploads on their way."""
    kept = (world.settings.instance_path / "models").rglob("*")
    return sorted(path for path in kept if path.is_file() and not path.name.startswith("."))


def test_a_proven_model_is_served_by_onnx(compiling: World) -> None:
    found = upload(compiling, "proven", iris_pipeline())
    assert found["engine"] == "onnx"
    assert found["reason"] is None
    assert found["verified_rows"] >= 1000
    assert 0 <= found["max_difference"] <= 1e-6
    assert found["speed_up"] > 1
    assert found["onnx_bytes"] > 0

    response = compiling.predict("proven", X.tolist(), probabilities=True)
    assert engine_of(compiling, response) == "onnx"
    (loaded,) = compiling.events(response, event_type="model_loaded")
    assert loaded["engine"] == "onnx"
    proof = ("precision", "verified_rows", "max_difference", "speed_up")
    assert loaded["details"] == {name: found[name] for name in proof}
    assert response.json["data"]["predictions"] == iris_pipeline().predict(X).tolist()
    np.testing.assert_allclose(
        response.json["data"]["probabilities"], iris_pipeline().predict_proba(X), atol=1e-6
    )
    assert "probabilities" not in compiling.predict("proven", X.tolist()).json["data"]


def test_one_request_can_ask_for_scikit_learn_itself(compiling: World) -> None:
    upload(compiling, "forest", cancer_forest())
    rows = load_breast_cancer().data[:50]
    body = {"model_id": "forest", "input_data": rows.tolist(), "probabilities": True}
    response = compiling.call(
        "POST", "predictions/predict?engine=sklearn", compiling.owner, json=body
    )
    assert engine_of(compiling, response) == "sklearn"
    expected = cancer_forest().predict_proba(load_breast_cancer(as_frame=True).data[:50])
    np.testing.assert_array_equal(response.json["data"]["probabilities"], expected)
    assert engine_of(compiling, compiling.predict("forest", rows.tolist())) == "onnx"


def test_an_unknown_engine_is_refused(compiling: World) -> None:
    body = {"model_id": "proven", "input_data": [[1, 2, 3, 4]]}
    response = compiling.call(
        "POST", "predictions/predict?engine=quantum", compiling.owner, json=body
    )
    assert response.status_code == 400
    assert "engine" in response.json["message"]


def test_a_warm_prediction_asks_the_database_nothing(compiling: World) -> None:
    upload(compiling, "warm", iris_pipeline())
    compiling.predict("warm", X.tolist())
    assert compiling.last_event(compiling.predict("warm", X.tolist()))["db_queries"] == 0


def test_a_model_that_is_not_compiled_says_why(compiling: World) -> None:
    found = upload(compiling, "texts", description_text())
    assert found["engine"] == "sklearn"
    assert found["reason"] == "only models of numbers and of categories are compiled"
    response = compiling.predict("texts", [["a flower with petals"]])
    assert engine_of(compiling, response) == "sklearn"
    (loaded,) = compiling.events(response, event_type="model_loaded")
    assert loaded["reason"] == found["reason"]
    (line,) = compiled(compiling, 1, message="Model stays on scikit-learn", model_name="texts")
    assert line["reason"] == found["reason"]


def test_the_line_of_a_compiling_names_the_version_that_was_due(compiling: World) -> None:
    upload(compiling, "named", iris_pipeline())
    upload(compiling, "named", iris_pipeline())
    model = compiling.call("GET", "models/named", compiling.owner).json["data"]
    lines = compiled(compiling, 2, message="Model compiled", model_name="named")
    assert [line["model_version"] for line in lines] == [1, 2]
    assert {line["model_id"] for line in lines} == {model["id"]}


@pytest.mark.parametrize(
    ("name", "unknown", "reason", "library"),
    [
        ("centroid", NearestCentroid(), "no converter for NearestCentroid", "shape calculator"),
        (
            "log",
            make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()),
            "the converter refused it",
            "FunctionTransformer is not supported",
        ),
    ],
)
def test_what_the_converter_refuses_has_a_short_reason_and_its_own_words_are_logged(
    compiling: World, name: str, unknown: Any, reason: str, library: str
) -> None:
    found = upload(compiling, name, unknown.fit(X, load_iris().target))
    assert (found["engine"], found["reason"]) == ("sklearn", reason)
    told = compiling.events(message="The compiler or its runtime refused a model")
    assert any(library in event["details"]["said"] for event in told)


def test_a_model_is_pinned_to_scikit_learn_and_released(compiling: World) -> None:
    upload(compiling, "pinned", iris_pipeline())
    pinned = compiling.call("PATCH", "models/pinned", compiling.owner, json={"engine": "sklearn"})
    assert pinned.json["data"]["engine"] == "sklearn"
    assert engine_of(compiling, compiling.predict("pinned", X.tolist())) == "sklearn"
    compiling.call("PATCH", "models/pinned", compiling.owner, json={"engine": "auto"})
    assert engine_of(compiling, compiling.predict("pinned", X.tolist())) == "onnx"
    wrong = compiling.call("PATCH", "models/pinned", compiling.owner, json={"engine": "fast"})
    assert wrong.status_code == 400


def test_the_admin_page_shows_the_engine_and_why(compiling: World) -> None:
    upload(compiling, "shown", iris_pipeline())
    upload(compiling, "unshown", description_text())
    admin = compiling.call("GET", "models", compiling.admin).json["data"]["items"]
    ids = {model["name"]: model["id"] for model in admin}
    signed_in = compiling.app.test_client()
    page = signed_in.get("/admin/login").get_data(as_text=True)
    assert page
    form = {"email": compiling.admin.email, "password": PASSWORD}
    assert signed_in.post("/admin/login", data=form).status_code == 303
    shown = signed_in.get(f"/admin/models/{ids['shown']}").get_data(as_text=True)
    assert re.search(
        r"ONNX, float(32|64), [\d.]+ × as fast on one row; equal on [\d,]+ rows", shown
    )
    unshown = signed_in.get(f"/admin/models/{ids['unshown']}").get_data(as_text=True)
    assert "scikit-learn: only models of numbers and of categories are compiled" in unshown


def test_a_model_of_numbers_and_categories_is_served_by_onnx(compiling: World) -> None:
    found = upload(compiling, "wine", wine_columns())
    assert (found["engine"], found["takes_nan"]) == ("onnx", True)
    frame = wine_frame()
    cells = frame.astype(object).where(frame.notna(), None)
    response = compiling.predict("wine", cells.to_dict("records"))
    assert engine_of(compiling, response) == "onnx"
    assert response.json["data"]["predictions"] == wine_columns().predict(frame).tolist()
    unknown = compiling.predict("wine", [[13.0, 2.0, "green"]])
    assert (unknown.status_code, unknown.json["details"]["column"]) == (400, "colour")

    sample = frame.to_csv(index=False)
    assert compiling.upload("wine", wine_columns(), sample=sample).status_code == 201
    sampled = compilation(compiling, "wine")["verified_rows"]
    assert sampled == found["verified_rows"] + len(frame)


def test_a_sample_of_the_owner_is_verified_on_as_well(compiling: World) -> None:
    without = upload(compiling, "sampled", iris_pipeline())
    lines = "\n".join(",".join(map(str, row)) for row in X.tolist())
    assert compiling.upload("sampled", iris_pipeline(), sample=lines).status_code == 201
    assert compilation(compiling, "sampled")["verified_rows"] == without["verified_rows"] + len(X)


NAMES = "alcohol,malic_acid,colour"


@pytest.mark.parametrize(
    ("fit", "sample", "says", "row", "column"),
    [
        (iris_pipeline, b"1,2,3,4\n1,2,3\n", "row 1 has 3 values", 1, None),
        (iris_pipeline, b"1,2,3,4\n1,2,x,4\n", "column 2 must be a finite number", 1, 2),
        (iris_pipeline, b'1,2,3,4\n1,2,"3,4\n', "line 2 is not valid CSV", None, None),
        (iris_pipeline, bytes(range(128, 256)) * 20, "is not UTF-8", None, None),
        (iris_pipeline, b"", "at least one row", None, None),
        (iris_pipeline, b"\r\n\n", "at least one row", None, None),
        (wine_columns, f"{NAMES}\n".encode(), "at least one row", None, None),
        (wine_columns, b"13,2,light\n", "none of the 3 feature names", None, None),
        (wine_columns, b"alcohol,acid,colour\n1,2,light\n", "'malic_acid'", None, "malic_acid"),
        (wine_columns, f"{NAMES}\n13,2,secret\n".encode(), "one of light", 0, "colour"),
        (wine_columns, f"{NAMES}\n13,,light\n".encode(), "finite number", 0, "malic_acid"),
        (description_text, b"a flower,another\n", "takes 1", 0, None),
    ],
)
def test_a_sample_that_is_none_of_the_model_is_refused_with_its_place(
    world: World,
    fit: Callable[[], Any],
    sample: bytes,
    says: str,
    row: int | None,
    column: int | str | None,
) -> None:
    response = world.upload("mistaken", dumped(fit), sample=sample)
    assert (response.status_code, response.json["error"]) == (400, "InvalidInputError")
    assert response.json["message"].startswith("the sample does not fit the model: ")
    assert says in response.json["message"]
    assert "secret" not in response.text
    details = response.json["details"]
    assert (details["field"], details["row"], details["column"]) == ("sample", row, column)
    assert details["expected"]
    assert world.call("GET", "models/mistaken", world.owner).status_code == 404
    assert stored(world) == []
    (action,) = world.events(response, action="upload_model")
    assert (action["outcome"], action["reason"]) == ("failure", response.json["message"])


def test_a_sample_of_a_model_with_names_may_have_its_columns_in_any_order(world: World) -> None:
    sample = "colour,malic_acid,alcohol\nlight,2,\n"
    assert world.upload("ordered", dumped(wine_columns), sample=sample).status_code == 201


def test_a_sample_that_is_not_equal_concerns_its_own_version_alone(compiling: World) -> None:
    stranger = compiling.stranger
    proven = upload(compiling, "mine", iris_pipeline())
    beyond_float32 = "1e300,1,1,1\n"
    compiling.upload("theirs", iris_pipeline(), stranger, sample=beyond_float32)
    differing = compilation(compiling, "theirs", stranger)
    assert (differing["engine"], differing["sampled"]) == ("sklearn", True)
    assert differing["reason"] == "a number is beyond the range of float32"
    assert compilation(compiling, "mine") == proven
    assert engine_of(compiling, compiling.predict("mine", X.tolist())) == "onnx"
    assert engine_of(compiling, compiling.predict("theirs", X.tolist(), stranger)) == "sklearn"

    upload(compiling, "mine", iris_pipeline())  # what is proven without it does not count there
    assert compilation(compiling, "theirs", stranger) == differing


def test_a_graph_that_was_changed_is_not_used(world: World, tmp_path: Path) -> None:
    changed = World(tmp_path / "changed", world.settings.database_url, engine="auto")
    upload(changed, "changed", iris_pipeline())
    (graph,) = graphs(changed)
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    response = changed.predict("changed", X.tolist())
    assert response.json["data"]["predictions"] == iris_pipeline().predict(X).tolist()
    assert engine_of(changed, response) == "sklearn"
    (failed,) = changed.events(response, event_type="model_load_failed")
    assert (failed["engine"], failed["level"]) == ("onnx", "ERROR")
    changed.close()


def test_a_graph_goes_with_its_model(world: World, tmp_path: Path) -> None:
    emptied = World(tmp_path / "emptied", world.settings.database_url, engine="auto")
    upload(emptied, "gone", iris_pipeline())
    assert len(graphs(emptied)) == 1
    emptied.call("DELETE", "models/gone", emptied.owner)
    assert graphs(emptied) == []
    emptied.close()


def test_nothing_is_compiled_where_the_settings_say_so(world: World) -> None:
    world.upload("plain", iris_pipeline())
    response = world.predict("plain", X.tolist())
    assert engine_of(world, response) == "sklearn"
    model = world.call("GET", "models/plain", world.owner).json["data"]
    assert model["versions"][0]["passport"]["compilation"] is None
    assert graphs(world) == []


def test_what_was_not_compiled_is_taken_up_with_its_sample(world: World, tmp_path: Path) -> None:
    lines = "\n".join(",".join(map(str, row)) for row in X.tolist())
    world.upload("left", iris_pipeline())
    world.upload("deleted", cancer_forest())
    world.call("DELETE", "models/deleted", world.owner)
    world.upload("sampled", iris_pipeline(), sample=lines)
    started = World(tmp_path, world.settings.database_url, engine="auto")
    with started.app.app_context():
        started.parts.compilations.wake()
    assert compilation(world, "left")["engine"] == "onnx"
    first, second = compiled(started, 2, message="Model compiled")
    rows = [event["details"]["verified_rows"] for event in (first, second)]
    assert rows[1] == rows[0] + len(X)
    started.close()


def test_the_line_of_a_load_names_the_version_that_was_asked_for(world: World) -> None:
    world.upload("first", iris_pipeline())
    second = world.upload("second", iris_pipeline()).json["data"]
    response = world.predict("second", X.tolist())
    (loaded,) = world.events(response, event_type="model_loaded")
    assert loaded["model_id"] == second["id"]
