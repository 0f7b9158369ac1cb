"""What a client gets who sends or asks for CSV."""

import csv
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.estimators import (
    cancer_forest,
    description_text,
    iris_pipeline,
    iris_vectors,
    wine_columns,
    wine_frame,
)
from tests.world import World

IRIS = load_iris().data
CANCER = load_breast_cancer(as_frame=True).data.head(3)
NAMES = "alcohol,malic_acid,colour"


def send(
    world: World,
    model: str,
    data: str | bytes,
    *,
    query: str = "",
    kind: str = "text/csv",
    **h: str,
) -> Any:
    path = f"predictions/predict?model_id={model}{query}"
    return world.call("POST", path, world.owner, data=data, content_type=kind, headers=h)


def lines(X: Any) -> str:
    """Write rows without a header."""
    return pd.DataFrame(X).to_csv(index=False, header=False)


def read(response: Any) -> list[list[str]]:
    assert response.mimetype == "text/csv"
    return list(csv.reader(io.StringIO(response.get_data(as_text=True), newline=""), strict=True))


@pytest.fixture
def wine(world: World) -> World:
    world.upload("wine", wine_columns())
    return world


def test_predictions_are_those_of_scikit_learn_in_any_order_of_columns(served: World) -> None:
    expected = cancer_forest().predict(CANCER).tolist()
    for frame in (CANCER, CANCER[sorted(CANCER.columns)]):
        response = send(served, "cancer", frame.to_csv(index=False), query="&probabilities=true")
        assert response.json["data"]["predictions"] == expected
        shares = cancer_forest().predict_proba(CANCER)
        np.testing.assert_array_equal(response.json["data"]["probabilities"], shares)


def test_it_is_three_lines_like_any_prediction(served: World) -> None:
    send(served, "iris", lines(IRIS))
    started, prediction, completed = served.events(send(served, "iris", lines(IRIS)))
    assert started["query_params"] == {"model_id": ["iris"]}
    assert (prediction["outcome"], prediction["rows"]) == ("success", 150)
    assert (completed["status_code"], completed["db_queries"]) == (200, 0)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        ("", "text/csv"),
        ("a,b,c,d\r\n", "text/csv; charset=utf-8"),
        ("0,1,2,3\n", "text/csv; header=present"),
        ("", 'text/csv; header="absent"; charset=US-ASCII'),
        ("\ufeffa,b,c,d\r\n\r\n", "text/csv"),
    ],
)
def test_a_model_without_names_takes_lines_with_and_without_a_header(
    served: World, head: str, kind: str
) -> None:
    response = send(served, "iris", head + lines(IRIS), kind=kind)
    assert response.json["data"]["predictions"] == iris_pipeline().predict(IRIS).tolist()


def test_an_empty_field_is_missing_and_a_category_is_text(wine: World) -> None:
    response = send(wine, "wine", wine_frame().to_csv(index=False))
    assert response.json["data"]["predictions"] == wine_columns().predict(wine_frame()).tolist()
    response = send(wine, "wine", f"{NAMES}\n13,2,light\n13,,light\n")
    assert response.status_code == 400
    assert "row 1, column 'malic_acid' must be a finite number" in response.json["message"]
    assert response.json["details"]["column"] == "malic_acid"
    response = send(wine, "wine", f"{NAMES}\n13,2,blue\n")
    assert "row 0, column 'colour' must be one of light, strong" in response.json["message"]


def test_booleans_and_numbers_are_categories_as_well(world: World) -> None:
    frame = pd.DataFrame({"flag": [True, False, True, False], "size": [1, 2, 3, 1]})
    fitted = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [0, 1, 0, 1])
    world.upload("flags", fitted)
    for text in (frame.to_csv(index=False), frame.to_csv(index=False).lower()):
        response = send(world, "flags", text)
        assert response.json["data"]["predictions"] == fitted.predict(frame).tolist()
    assert send(world, "flags", "flag,size\nyes,1\n").status_code == 400


def test_text_may_be_quoted_over_several_lines(world: World) -> None:
    world.upload("text", description_text())
    texts = ['wine, "red"\nand white', "the flower's petals"]
    body = pd.DataFrame({"text": texts}).to_csv(index=False)
    response = send(world, "text", body, kind="text/csv; header=present")
    assert response.json["data"]["predictions"] == description_text().predict(texts).tolist()
    unclear = send(world, "text", body)
    assert unclear.status_code == 400
    assert "header=present" in unclear.json["message"]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("alcohol,malic_acid", "missing 'colour'"),
        (f"{NAMES},hue", "unknown 'hue'"),
        ("alcohol,malic_acid,color", "missing 'colour', unknown 'color'"),
        (f"{NAMES},colour", "repeated 'colour'"),
        ("13,2,secret", "none of the 3 feature names"),
        ("", "at least one row"),
    ],
)
def test_a_header_that_does_not_match_is_refused_with_the_names(
    wine: World, header: str, says: str
) -> None:
    response = send(wine, "wine", f"{header}\n" + "13,2,light,1\n" * (header != ""))
    assert response.status_code == 400
    assert (response.json["error"], "secret" in response.text) == ("InvalidInputError", False)
    assert says in response.json["message"] or header == ""
    (prediction,) = wine.events(response, event_type="prediction")
    assert prediction["reason"] == response.json["message"]


NUMBERED = "0,1,2,3\n5,3,1,0.2\n"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "at least one row"),
        (b"\r\n\n\n", "at least one row"),
        (b"a,b,c,d\n", "at least one row"),
        (b"a,b,c\n5,3,1\n", "3 columns, but the model takes 4"),
        (b"5,3,1,0.2\n5,3,1\n", "row 1 has 3 values"),
        (b"5,3,1,0.2\n5,3,1,0.2,\n", "row 1 has 5 values"),
        (b"5,3,1,0.2\n5,3,x,0.2\n", "row 1, column 2 must be a finite number, not text"),
        (b"5,3,1,0.2\n5,3,True,0.2\n", "number, not a boolean: write 1 for true and 0 for false"),
        (b"5,3,1,0.2\n5,3,,0.2\n", "row 1, column 2 must be a finite number"),
        (b"5,3,1,0.2\n5,3,nan,0.2\n", "row 1, column 2 must be a finite number"),
        (b"5,3,1,0.2\n5,3,1e999,0.2\n", "row 1, column 2 must be a finite number"),
        (b"5,3,1,0.2\n5,3,1_0,0.2\n", "row 1, column 2 must be a finite number"),
        (b"5,3,1,0.2\n5,3,1\x00,0.2\n", "row 1, column 2 must be a finite number"),
        (b'5,3,1,0.2\n5,3,"1,0.2\n', "is not valid CSV"),
        (b'5,3,1,0.2\n5,3,"1"2,0.2\n', "line 2 is not valid CSV"),
        (b'5,3,1,0.2\n5,3,1",0.2\n', "row 1, column 2 must be a finite number"),
        (b"5,3,1,0.2\n5,3," + b"1" * 200_000 + b",0.2\n", "line 2 is not valid CSV"),
        (b"5;3;1;0.2\n5;3;1;0.2\n", "1 columns, but the model takes 4"),
        (b"\xff\xfe" + "5,3,1,0.2\n".encode("utf-16-le"), "UTF-8"),
        ("5,3,1,0.2\n".encode("utf-16-le"), "the model takes 4"),
        (b"\xff,3,1,0.2\n", "UTF-8"),
        (b"," * 1_000_000, "1000001 values, but the model takes 4"),
        (b"a," * 1_000_000 + b"\n1", "1000001 columns, but the model takes 4"),
        (b"5,3,x,0.2\n5,3,1,0.2\n", "whether the first line is a header"),
        (NUMBERED.encode(), "whether the first line is a header"),
    ],
)
def test_what_is_no_csv_of_the_model_is_refused_with_its_place(
    served: World, data: bytes, says: str
) -> None:
    response = send(served, "iris", data)
    assert (response.status_code, response.json["error"]) == (400, "InvalidInputError")
    assert says in response.json["message"]
    assert len(response.data) < 1000
    (prediction,) = served.events(response, event_type="prediction")
    assert prediction["outcome"] == "failure"


def test_names_by_the_million_are_refused_at_once(served: World) -> None:
    for header in ("mean radius," * 100_000, ",".join(map(str, range(1_000_000)))):
        response = send(served, "cancer", f"{header}\n1")
        assert response.status_code == 400
        assert served.last_event(response)["duration"] < 5


def test_carriage_returns_alone_end_lines_as_well(served: World) -> None:
    response = send(served, "iris", lines(IRIS).replace("\n", "\r"))
    assert response.json["data"]["rows"] == 150


@pytest.mark.parametrize(
    "kind",
    [
        "text/csv; charset=utf-16",
        "text/csv; header=maybe",
        "text/tab-separated-values",
        "text/plain",
    ],
)
def test_other_media_types_are_refused(served: World, kind: str) -> None:
    assert send(served, "iris", lines(IRIS), kind=kind).status_code == 415


@pytest.mark.parametrize("query", ["", "?model_id=", "?model_id=iris&rows=1"])
def test_the_query_must_name_the_model_and_nothing_unknown(served: World, query: str) -> None:
    path = f"predictions/predict{query}"
    response = served.call("POST", path, served.owner, data="1,2,3,4", content_type="text/csv")
    assert (response.status_code, response.json["error"]) == (400, "InvalidInputError")


def test_the_limits_of_rows_and_bytes_hold(database_url: str, tmp_path: Any) -> None:
    small = World(tmp_path, database_url, max_body_bytes=1000, max_rows=10)
    small.upload("iris", iris_pipeline())
    assert send(small, "iris", lines(IRIS[:10])).status_code == 200
    for data in (lines(IRIS[:11]), "a,b,c,d\n" + lines(IRIS[:11]), lines(IRIS)):
        response = send(small, "iris", data)
        assert response.status_code == 413
    small.close()


def test_the_answer_may_be_csv(served: World) -> None:
    response = send(served, "iris", lines(IRIS), query="&probabilities=true", Accept="text/csv")
    header, *rows = read(response)
    assert header == ["prediction", "probability_0", "probability_1", "probability_2"]
    assert [int(row[0]) for row in rows] == iris_pipeline().predict(IRIS).tolist()
    shares = [[float(share) for share in row[1:]] for row in rows]
    np.testing.assert_array_equal(shares, iris_pipeline().predict_proba(IRIS))


def test_rows_in_json_may_be_answered_in_csv(served: World) -> None:
    body = {"model_id": "diabetes", "input_data": [[0.0] * 10]}
    for accept, kind in {
        "text/csv": "text/csv",
        "text/csv, */*;q=0.1": "text/csv",
        "application/json, text/csv;q=0.9": "application/json",
        "*/*": "application/json",
        "image/png": "application/json",
    }.items():
        headers = {"Accept": accept}
        answer = served.call(
            "POST", "predictions/predict", served.owner, json=body, headers=headers
        )
        assert (answer.status_code, answer.mimetype) == (200, kind), accept


def test_a_failure_is_json_whatever_was_asked_for(served: World) -> None:
    response = send(served, "iris", "5,3\n", Accept="text/csv")
    assert response.json["error"] == "InvalidInputError"


def test_labels_are_quoted_where_they_need_it(world: World) -> None:
    labels = np.array(['a "quoted", label', "two\nlines", "plain"])[load_iris().target]
    fitted = LogisticRegression(max_iter=1000).fit(IRIS, labels)
    world.upload("odd", fitted)
    header, *rows = read(
        send(world, "odd", lines(IRIS), query="&probabilities=true", Accept="text/csv")
    )
    assert header == ["prediction", *(f"probability_{label}" for label in fitted.classes_)]
    assert [row[0] for row in rows] == fitted.predict(IRIS).tolist()


def test_several_outputs_have_numbered_columns(world: World) -> None:
    target = load_iris().target
    both = RandomForestClassifier(3, random_state=0).fit(IRIS, np.c_[target, target == 1])
    world.upload("both", both)
    world.upload("ridge", Ridge().fit(IRIS, np.c_[target, target * 2.0]))
    header, *_ = read(
        send(world, "both", lines(IRIS), query="&probabilities=true", Accept="text/csv")
    )
    shares = ["probability_0_0", "probability_0_1", "probability_0_2"]
    assert header[:5] == ["prediction_0", "prediction_1", *shares]
    assert header[5:] == ["probability_1_0", "probability_1_1"]
    header, *rows = read(send(world, "ridge", lines(IRIS), Accept="text/csv"))
    assert header == ["prediction_0", "prediction_1"]
    assert len(rows) == 150


def test_the_openapi_document_has_both_directions(world: World) -> None:
    predict = world.call("GET", "openapi.json").json["paths"]["/api/v1/predictions/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {"application/json", "text/csv"}
    assert set(predict["responses"]["200"]["content"]) == {"application/json", "text/csv"}
    assert set(predict["responses"]["400"]["content"]) == {"application/json"}
    parameters = {one["name"]: one for one in predict["parameters"]}
    assert set(parameters) == {"engine", "model_id", "probabilities"}
    assert not parameters["model_id"]["required"]


def test_single_text_labels_are_written(world: World) -> None:
    world.upload("species", iris_vectors())
    response = send(world, "species", lines(IRIS[:2]), Accept="text/csv")
    assert response.get_data(as_text=True) == "prediction\r\nsetosa\r\nsetosa\r\n"
