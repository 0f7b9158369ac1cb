"""Predictions equal scikit-learn's own; input that does not fit is refused with its place."""

import datetime
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests import estimators
from tests.estimators import dump, predictor, rows
from webapp.errors import InvalidInputError, PredictionError
from webapp.ml.loading import load_estimator
from webapp.ml.loading.examine import examine
from webapp.ml.predictor import Predictor

IRIS = load_iris().data
FRAME = estimators.wine_frame()
WINE_ROW = {"alcohol": 13.0, "malic_acid": 2.0, "colour": "light"}


def serve(fitted: Any) -> Predictor:
    """Take an estimator the whole way through its file."""
    data = dump(fitted)
    return Predictor(load_estimator(data), examine(data, 1000))


def refuse(served: Predictor, input_data: Any, **options: Any) -> dict[str, Any]:
    """Check that input is refused, and return the details."""
    with pytest.raises(InvalidInputError) as caught:
        served.predict(input_data, **options)
    details = caught.value.details
    json.dumps(details, allow_nan=False)
    return {"message": caught.value.message, **details}


@pytest.mark.parametrize(
    ("fit", "X"),
    [
        (estimators.iris_pipeline, IRIS),
        (estimators.cancer_forest, load_breast_cancer(as_frame=True).data),
        (estimators.digits_boosting, load_digits().data),
        (estimators.diabetes_ridge, load_diabetes().data),
        (estimators.wine_clusters, load_wine().data),
        (estimators.iris_neighbours, IRIS),
        (estimators.iris_vectors, IRIS),
        (estimators.wine_columns, FRAME),
    ],
)
def test_predictions_are_those_of_scikit_learn(fit: Any, X: Any) -> None:
    served = predictor(fit)
    answer = served.predict(rows(X, 150))
    assert answer.predictions == fit().predict(X[:150]).tolist()
    assert answer.rows == len(X[:150])
    assert answer.probabilities is None
    assert answer.classes is None
    assert answer.duration_seconds > 0
    json.dumps(answer.predictions, allow_nan=False)


def test_predictions_for_text_are_those_of_scikit_learn() -> None:
    sentences, _ = estimators.texts()
    answer = predictor(estimators.description_text).predict([[line] for line in sentences])
    assert answer.predictions == estimators.description_text().predict(sentences).tolist()


@pytest.mark.parametrize(
    ("fit", "X"), [(estimators.iris_pipeline, IRIS), (estimators.wine_columns, FRAME)]
)
def test_probabilities_come_with_the_classes_of_their_columns(fit: Any, X: Any) -> None:
    answer = predictor(fit).predict(rows(X), probabilities=True)
    assert answer.probabilities == fit().predict_proba(X[:5]).tolist()
    assert answer.classes == fit().classes_.tolist()


def test_rows_may_be_objects_in_any_order_of_names() -> None:
    served = predictor(estimators.cancer_forest)
    X = load_breast_cancer(as_frame=True).data[:5]
    objects = [dict(reversed(row.items())) for row in X.to_dict("records")]
    assert served.predict(objects).predictions == served.predict(rows(X)).predictions
    lists = predictor(estimators.wine_columns).predict([[13.0, 2.0, "light"]])
    assert predictor(estimators.wine_columns).predict([WINE_ROW]).predictions == lists.predictions


def test_a_model_with_one_named_feature_takes_objects() -> None:
    served = serve(Ridge().fit(pd.DataFrame({"x": [0.0, 1.0]}), [0.0, 1.0]))
    assert served.predict([{"x": 1}]).rows == 1
    assert refuse(served, [{"y": 1}])["missing"] == ["x"]


def test_several_outputs_give_one_list_per_row() -> None:
    labels = np.c_[load_iris().target, load_iris().target > 0]
    model = DecisionTreeClassifier(max_depth=2).fit(IRIS, labels)
    served = serve(model)
    answer = served.predict(rows(IRIS), probabilities=True)
    assert answer.predictions == model.predict(IRIS[:5]).tolist()
    assert served.passport.n_outputs == 2
    assert answer.classes == [[0, 1, 2], [0, 1]]
    assert answer.probabilities is not None
    first, second = model.predict_proba(IRIS[:5])
    assert answer.probabilities[0] == [first[0].tolist(), second[0].tolist()]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (np.datetime64("2024-05-01"), "2024-05-01"),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        (b"caf\xc3\xa9", "café"),
        ("\ud800", "?"),
        (np.float64(math.nan), None),
        (math.inf, None),
        (2**70, str(2**70)),
        (np.True_, True),
    ],
)
def test_answers_that_json_lacks_become_text_or_null(label: Any, shown: Any) -> None:
    class Constant:
        """An estimator as far as the predictor can see."""

        n_features_in_ = 1

        def predict(self, X: Any) -> Any:
            answer = np.empty(len(X), dtype=object)
            answer[:] = [label] * len(X)
            return answer

    served = Predictor(Constant(), predictor(estimators.diabetes_ridge).passport)
    assert served.predict([[1.0] * 10]).predictions == [shown]


def test_a_prediction_that_is_not_finite_is_null() -> None:
    served = serve(Ridge().fit([[0.0], [1.0]], [0.0, 1e300]))
    assert served.predict([[1e300], [0.0]]).predictions[0] is None


def test_integers_are_numbers() -> None:
    assert predictor(estimators.iris_pipeline).predict([[5, 3, 1, 0]]).rows == 1


@pytest.mark.parametrize("input_data", [[], None, {}, "rows", 3])
def test_an_empty_matrix_or_no_matrix_is_refused(input_data: Any) -> None:
    details = refuse(predictor(estimators.iris_pipeline), input_data)
    assert details["expected"] == "at least one row"


@pytest.mark.parametrize(
    ("input_data", "row"),
    [([1, 2, 3, 4], 0), ([[1, 2, 3, 4], "text"], 1), ([[1, 2, 3, 4], {"a": 1}], 1), ([None], 0)],
)
def test_a_row_that_is_no_list_is_refused(input_data: Any, row: int) -> None:
    details = refuse(predictor(estimators.iris_pipeline), input_data)
    assert details["row"] == row
    assert details["expected"] == "a list of values"


def test_an_object_after_lists_or_a_list_after_objects_is_refused() -> None:
    served = predictor(estimators.wine_columns)
    assert refuse(served, [[13.0, 2.0, "light"], WINE_ROW])["row"] == 1
    assert refuse(served, [WINE_ROW, [13.0, 2.0, "light"]])["row"] == 1


@pytest.mark.parametrize(
    ("input_data", "row", "given"),
    [([[1, 2, 3]], 0, 3), ([[1, 2, 3, 4], [1, 2, 3, 4, 5]], 1, 5), ([[]], 0, 0)],
)
def test_a_wrong_width_names_the_row_and_both_numbers(
    input_data: Any, row: int, given: int
) -> None:
    details = refuse(predictor(estimators.iris_pipeline), input_data)
    assert details["row"] == row
    assert details["expected"] == "4 values"
    assert f"row {row} has {given} value" in details["message"]
    assert "takes 4" in details["message"]


@pytest.mark.parametrize(
    "value",
    ["secret-1", "1.5", True, False, None, math.nan, math.inf, -math.inf, [1], {"a": 1}, 10**400],
)
@pytest.mark.parametrize("fit", [estimators.iris_pipeline, estimators.wine_columns])
def test_what_is_no_number_is_refused_with_its_place_and_never_repeated(
    value: Any, fit: Any
) -> None:
    served = predictor(fit)
    good = [1.0, 2.0, 3.0, 4.0] if fit is estimators.iris_pipeline else [13.0, 2.0, "light"]
    bad = [*good]
    bad[1] = value
    details = refuse(served, [good, good, bad])
    assert details["row"] == 2
    assert details["column"] == ("malic_acid" if fit is estimators.wine_columns else 1)
    assert details["expected"] == "a finite number"
    assert "secret" not in details["message"]


@pytest.mark.parametrize("value", [True, False, "True", "false", "TRUE"])
def test_a_boolean_in_place_of_a_number_is_refused_with_what_to_write(value: Any) -> None:
    details = refuse(predictor(estimators.iris_pipeline), [[1.0, 2.0, value, 4.0]])
    assert details["expected"] == "a finite number"
    assert details["message"] == (
        "row 0, column 2 must be a finite number, not a boolean: write 1 for true and 0 for false"
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("secret", "text"),
        ("1.5", "text"),
        (None, "a missing value"),
        (["secret"], "a list"),
        ({"secret": 1}, "an object"),
    ],
)
def test_what_stands_in_place_of_a_number_is_told(value: Any, found: str) -> None:
    details = refuse(predictor(estimators.wine_columns), [[13.0, value, "light"]])
    assert details["message"] == (
        f"row 0, column 'malic_acid' must be a finite number, not {found}"
    )


def test_what_stands_in_place_of_text_or_a_category_is_told() -> None:
    served = predictor(estimators.wine_columns)
    unknown = refuse(served, [{**WINE_ROW, "colour": "secret"}])["message"]
    assert unknown == "row 0, column 'colour' must be one of light, strong"
    assert refuse(served, [{**WINE_ROW, "colour": "true"}])["message"] == unknown
    number = refuse(served, [{**WINE_ROW, "colour": 3}])["message"]
    assert number == f"{unknown}, not a number"
    text = refuse(predictor(estimators.description_text), [[True]])["message"]
    assert text == "row 0, column 0 must be text, not a boolean"


def test_a_boolean_column_that_is_passed_on_takes_one_and_zero() -> None:
    wine = load_wine(as_frame=True)
    frame = wine.data[["alcohol", "malic_acid"]].assign(sweet=wine.data["malic_acid"] > 2)
    columns = make_column_transformer((StandardScaler(), ["alcohol"]), remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(frame, wine.target)
    served = serve(model)
    told = refuse(served, frame.head().to_dict("records"))
    assert told["message"].startswith("row 0, column 'sweet' must be a finite number, not a bool")
    numbers = frame.astype(float).to_numpy().tolist()
    assert served.predict(numbers).predictions == model.predict(frame).tolist()


def test_a_boolean_among_many_numbers_is_found() -> None:
    X = [[float(i), 1.0, 2.0, 3.0] for i in range(2000)]
    X[1234][2] = True
    details = refuse(predictor(estimators.iris_pipeline), X)
    assert (details["row"], details["column"]) == (1234, 2)


def test_missing_values_are_taken_where_the_model_takes_them() -> None:
    served = predictor(estimators.digits_boosting)
    model = estimators.digits_boosting()
    X = load_digits().data[:3].copy()
    X[0, 5] = X[2, 60] = np.nan
    answer = served.predict([[None if v != v else v for v in row] for row in X.tolist()])
    assert answer.predictions == model.predict(X).tolist()
    assert served.predict(X.tolist()).predictions == answer.predictions
    assert refuse(served, [[math.inf] * 64])["expected"] == "a finite number, or null"


def test_only_the_columns_that_are_imputed_may_be_missing() -> None:
    served = predictor(estimators.wine_columns)
    assert served.passport.accepts_nan is False
    missing = served.predict([{**WINE_ROW, "alcohol": None}])
    X = pd.DataFrame([WINE_ROW]).assign(alcohol=np.nan)
    assert missing.predictions == estimators.wine_columns().predict(X).tolist()
    assert refuse(served, [{**WINE_ROW, "malic_acid": None}])["column"] == "malic_acid"
    assert refuse(served, [{**WINE_ROW, "colour": None}])["column"] == "colour"


def test_a_scaler_that_passes_nan_on_does_not_make_the_model_accept_it() -> None:
    # Its tags say that the pipeline takes NaN: they are those of the first step.
    assert predictor(estimators.iris_pipeline).passport.accepts_nan is False
    imputed = make_pipeline(SimpleImputer(), LogisticRegression(max_iter=1000))
    assert serve(imputed.fit(IRIS, load_iris().target)).passport.accepts_nan is True


def test_missing_and_unknown_names_are_told() -> None:
    served = predictor(estimators.wine_columns)
    lacking = refuse(served, [WINE_ROW, {"alcohol": 1.0, "colour": "light"}])
    assert (lacking["row"], lacking["column"]) == (1, "malic_acid")
    assert lacking["missing"] == ["malic_acid"]
    more = refuse(served, [{**WINE_ROW, "vintage": 1998}])
    assert more["unknown"] == ["vintage"]
    assert "1998" not in more["message"]
    misspelt = refuse(served, [{"Alcohol": 13.0, "malic_acid": 2.0, "colour": "light"}])
    assert (misspelt["missing"], misspelt["unknown"]) == (["alcohol"], ["Alcohol"])


def test_objects_are_refused_by_a_model_without_names() -> None:
    details = refuse(predictor(estimators.iris_pipeline), [{"sepal length (cm)": 5.1}])
    assert "no feature names" in details["message"]


def test_text_takes_text_only() -> None:
    served = predictor(estimators.description_text)
    assert served.passport.feature_kinds == ["text"]
    for value in (1, None, True, ["word"]):
        details = refuse(served, [["some words"], [value]])
        assert (details["row"], details["column"], details["expected"]) == (1, 0, "text")


def test_a_category_that_the_model_does_not_know_is_refused_with_those_it_knows() -> None:
    served = predictor(estimators.wine_columns)
    details = refuse(served, [{**WINE_ROW, "colour": "secret"}])
    assert details["column"] == "colour"
    assert details["expected"] == "one of light, strong"
    assert "secret" not in details["message"]
    assert refuse(served, [{**WINE_ROW, "colour": 3}])["column"] == "colour"


def test_an_unknown_category_is_taken_where_the_encoder_ignores_it() -> None:
    frame = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "colour": ["a", "b", "a", "b"]})
    columns = make_column_transformer(
        (StandardScaler(), ["size"]), (OneHotEncoder(handle_unknown="ignore"), ["colour"])
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame, [0, 1, 0, 1])
    served = serve(model)
    new = pd.DataFrame({"size": [1.5], "colour": ["c"]})
    assert served.predict([[1.5, "c"]]).predictions == model.predict(new).tolist()
    assert refuse(served, [[1.5, 7]])["expected"] == "a category (text), or null"


def test_categories_may_be_numbers_or_booleans() -> None:
    X = np.array([[1], [2], [3], [1]])
    numbers = serve(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(X, [0, 1, 1, 0]))
    assert numbers.passport.feature_kinds == ["category"]
    assert numbers.predict([[1], [2.0]]).predictions == [0, 1]
    assert refuse(numbers, [[1], [4]])["row"] == 1
    frame = pd.DataFrame({"flag": [True, False, True, False]})
    flags = serve(make_pipeline(OneHotEncoder(), LogisticRegression()).fit(frame, [1, 0, 1, 0]))
    assert flags.predict([[True], [False]]).predictions == [1, 0]
    assert refuse(flags, [[1]])["expected"] == "one of False, True"


def test_categories_without_column_names_are_served() -> None:
    X = np.array([["a", 1], ["b", 2], ["a", 2]], dtype=object)
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(X, [0, 1, 0])
    assert serve(model).predict(X.tolist()).predictions == model.predict(X).tolist()


def test_boosting_with_category_columns_is_served() -> None:
    colour = pd.Categorical(["a", "b"] * 20)
    frame = pd.DataFrame({"size": np.arange(40.0), "colour": colour})
    model = HistGradientBoostingClassifier(
        max_iter=2, categorical_features="from_dtype", min_samples_leaf=2
    ).fit(frame, colour == "a")
    served = serve(model)
    assert served.passport.feature_kinds == ["number", "category"]
    answer = served.predict([[1.0, "a"], [2.0, "b"], [3.0, None]])
    assert answer.predictions[:2] == [True, False]


def test_a_dropped_column_may_hold_anything_of_a_cell() -> None:
    frame = pd.DataFrame({"id": ["u1", "u2", "u3"], "size": [1.0, 2.0, 3.0]})
    columns = make_column_transformer((StandardScaler(), ["size"]))
    served = serve(make_pipeline(columns, Ridge()).fit(frame, [1.0, 2.0, 3.0]))
    assert served.predict([["u9", 1.0], [7, 2.0], [None, 3.0]]).rows == 3
    assert refuse(served, [["u9", "large"]])["column"] == "size"


def test_probabilities_of_a_model_without_them_are_refused() -> None:
    details = refuse(predictor(estimators.diabetes_ridge), [[0.0] * 10], probabilities=True)
    assert "no probabilities" in details["message"]


def test_an_estimator_that_fails_on_valid_input_is_our_failure() -> None:
    served = predictor(estimators.fragile_neighbours)
    assert served.predict([[1.0, 1.0]]).rows == 1
    with pytest.raises(PredictionError) as caught:
        served.predict([[1e6, 1e6]])
    assert caught.value.message == "the model failed on this input"
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_passport_tells_what_the_model_is() -> None:
    passport = predictor(estimators.digits_boosting).passport
    assert passport.estimator == "sklearn.ensemble.HistGradientBoostingClassifier"
    assert passport.n_features_in_ == 64
    assert passport.feature_names_in_ is None
    assert passport.classes_ == list(range(10))
    assert passport.has_predict_proba
    assert (
        passport.memory_bytes
        >= passport.bytes
        == len(estimators.dumped(estimators.digits_boosting))
    )
    assert passport.smoke_prediction in range(10)
    ridge = predictor(estimators.diabetes_ridge).passport
    assert (ridge.classes_, ridge.has_predict_proba, ridge.steps) == (None, False, [])
    assert json.loads(json.dumps(ridge.to_dict())) == ridge.to_dict()


def test_dummies_and_forests_of_any_label_type_are_served() -> None:
    for model in (
        DummyClassifier().fit(IRIS, load_iris().target),
        DummyRegressor().fit(IRIS, load_iris().target),
        RandomForestClassifier(2).fit(IRIS, load_iris().target > 0),
    ):
        assert serve(model).predict(rows(IRIS)).predictions == model.predict(IRIS[:5]).tolist()
