"""What the reader takes and refuses, without the child around it."""

from typing import Any

import numpy as np
import pytest
import sklearn
from scipy import stats
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from tests import estimators
from tests.estimators import dump, dumped, saved_with
from tests.unit.ml import hostile
from webapp.errors import ModelRejectedError
from webapp.ml.graph import walk
from webapp.ml.loading import Allowed, load_estimator
from webapp.ml.loading.allowed import NOTHING_MORE, minor
from webapp.ml.loading.examine import examine
from webapp.ml.loading.policy import load_policy

X, Y = load_iris(return_X_y=True)


OLD = saved_with("1.2.3", dumped(estimators.iris_pipeline))
ALLOWED = Allowed(sklearn_versions=("1.1", "1.2"))


def refuse(data: bytes, reason: str, allowed: Allowed = NOTHING_MORE) -> ModelRejectedError:
    """Check that a file is refused for a reason, and return the refusal."""
    with pytest.raises(ModelRejectedError) as caught:
        examine(data, 100, allowed)
    assert caught.value.details["reason"] == reason, caught.value.message
    return caught.value


@pytest.mark.parametrize("form", hostile.honest_compressions())
def test_a_model_is_loaded_however_joblib_wrote_it(form: str) -> None:
    loaded: Any = load_estimator(hostile.honest_compressions()[form])
    assert np.array_equal(loaded.predict_proba(X), estimators.iris_pipeline().predict_proba(X))


def test_a_search_is_loaded_and_predicts_with_its_best_estimator() -> None:
    search = GridSearchCV(SVC(), {"C": [0.1, 1.0]}, cv=2).fit(X, Y)
    loaded: Any = load_estimator(dump(search))
    assert np.array_equal(loaded.predict(X), search.predict(X))
    assert loaded.best_params_ == search.best_params_


def test_a_neighbour_index_is_built_anew_and_finds_the_same() -> None:
    model = estimators.iris_neighbours()
    loaded: Any = load_estimator(dumped(estimators.iris_neighbours))
    assert np.array_equal(loaded.kneighbors(X)[1], model.kneighbors(X)[1])


def test_threads_and_output_are_switched_off_in_every_part() -> None:
    forest = RandomForestClassifier(2, n_jobs=-1, verbose=3)
    model = make_pipeline(forest, memory="cache", verbose=True).fit(X, Y)
    parts = list(walk(load_estimator(dump(model))))
    settings = [vars(part) for part in parts]
    assert {found["n_jobs"] for found in settings if "n_jobs" in found} == {1}
    assert {found["verbose"] for found in settings if "verbose" in found} == {0}
    assert {found["memory"] for found in settings if "memory" in found} == {None}


def test_no_message_shows_a_long_or_unprintable_name() -> None:
    data = hostile.stream(hostile.name("evil\n\x1b[31m", "x" * 500))
    refusal = refuse(data, "global_not_allowed")
    assert len(refusal.details["global"]) == 80
    assert refusal.message.isprintable()


def test_a_randomised_search_is_told_to_save_its_best_estimator() -> None:
    search = RandomizedSearchCV(SVC(), {"C": stats.uniform(0.1, 1)}, n_iter=2, cv=2, random_state=0)
    refusal = refuse(dump(search.fit(X, Y)), "global_not_allowed")
    assert "best_estimator_" in refusal.message


class Trusted:
    """What an operator could have installed: it makes itself of its state."""

    def __init__(self) -> None:
        self.number = 1

    def __getstate__(self) -> list[int]:
        return [self.number]

    def __setstate__(self, state: list[int]) -> None:
        self.number = state[0] + 1


def trusted_function(X: Any) -> Any:
    """What an operator could have installed, too."""
    return X + 1


def test_a_class_that_the_operator_trusts_may_be_used() -> None:
    data = hostile.inside_an_estimator(Trusted())
    refuse(data, "global_not_allowed")
    loaded: Any = load_estimator(data, allowed=Allowed((f"{__name__}.Trusted",)))
    assert loaded.extra_.number == 2


def test_a_function_that_the_operator_trusts_may_be_a_value_and_is_not_called() -> None:
    allowed = Allowed((f"{__name__}.trusted_function",))
    model = make_pipeline(FunctionTransformer(trusted_function), Ridge()).fit(X, Y)
    refuse(dump(model), "global_not_allowed")
    loaded: Any = load_estimator(dump(model), allowed=allowed)
    assert np.array_equal(loaded.predict(X), model.predict(X))
    called = hostile.inside_an_estimator(hostile.Call(trusted_function, 1))
    with pytest.raises(ModelRejectedError, match="not for calling"):
        load_estimator(called, allowed=allowed)


@pytest.mark.parametrize("name", ["no.such.module", "os.no_such_name", "nonsense", "", "os."])
def test_a_trusted_name_that_is_not_there_is_an_error_at_the_start(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be imported") as caught:
        load_policy((name,))
    assert name in str(caught.value)


def test_another_minor_version_of_scikit_learn_is_refused_by_name() -> None:
    here = sklearn.__version__
    refusal = refuse(OLD, "wrong_sklearn_version")
    assert refusal.message == (
        f"the model was saved with scikit-learn 1.2.3, and {here} runs here; fit and save it again"
        f" with scikit-learn {minor(here)}, or ask the operator to allow 1.2"
    )
    assert refusal.details["sklearn_version_here"] == here
    odd = refuse(saved_with("1.x.3", dumped(estimators.iris_pipeline)), "wrong_sklearn_version")
    assert "ask the operator" not in odd.message


def test_a_version_that_the_operator_allows_is_loaded_and_predicts() -> None:
    loaded: Any = load_estimator(OLD, ALLOWED)
    assert np.array_equal(loaded.predict_proba(X), estimators.iris_pipeline().predict_proba(X))
    assert examine(OLD, 100, ALLOWED).sklearn_version == "1.2.3"


@pytest.mark.parametrize("version", ["1.1", "1.20", "1", "2.2"])
def test_only_the_very_version_that_is_allowed_is_loaded(version: str) -> None:
    with pytest.raises(ModelRejectedError, match=r"allow 1\.2"):
        load_estimator(OLD, Allowed(sklearn_versions=(version,)))


def test_an_allowed_version_is_held_to_every_other_rule() -> None:
    moved = OLD.replace(b"LogisticRegression", b"LogisticRegressioN")
    refuse(moved, "global_not_allowed", ALLOWED)
    broken = Ridge().fit(X, Y)
    broken.coef_ = broken.coef_[:2]
    refuse(saved_with("1.2.3", dump(broken)), "smoke_prediction_failed", ALLOWED)


def test_of_several_versions_that_of_the_whole_model_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        Ridge, "__getstate__", lambda self: vars(self) | {"_sklearn_version": "1.2.3"}
    )
    mixed = dump(make_pipeline(StandardScaler(), Ridge()).fit(X, Y))
    refuse(mixed, "wrong_sklearn_version")
    assert examine(mixed, 100, ALLOWED).sklearn_version == sklearn.__version__


def test_an_old_private_name_is_blamed_on_the_version() -> None:
    data = dumped(estimators.iris_pipeline).replace(b"LogisticRegression", b"LogisticRegressioN")
    old = data.replace(sklearn.__version__.encode(), b"1.2.3")
    refuse(data, "global_not_allowed")
    refuse(old, "wrong_sklearn_version")


def test_another_patch_version_is_taken() -> None:
    here = sklearn.__version__.encode()
    other = here.rsplit(b".", 1)[0] + b".9"
    data = dumped(estimators.iris_pipeline).replace(here, other)
    assert examine(data, 100).sklearn_version == other.decode()


def test_an_unfitted_model_is_refused() -> None:
    refuse(dump(LogisticRegression()), "not_fitted")
    refuse(dump(make_pipeline(LogisticRegression())), "not_fitted")


def test_a_model_with_too_many_features_is_refused_with_both_numbers() -> None:
    wide = LogisticRegression().fit(np.eye(101), [0, 1] * 50 + [0])
    refusal = refuse(dump(wide), "limits")
    assert "101" in refusal.message
    assert "100" in refusal.message


def test_a_model_that_fails_on_an_ordinary_row_is_refused() -> None:
    broken = Ridge().fit(X, Y)
    broken.coef_ = broken.coef_[:2]
    refuse(dump(broken), "smoke_prediction_failed")


@pytest.mark.parametrize("dtype", [np.number, object])
def test_a_dtype_that_is_a_class_is_refused_with_the_text_to_write(dtype: type) -> None:
    by_class, by_text = (
        make_column_transformer((StandardScaler(), make_column_selector(dtype_include=wanted)))
        for wanted in (dtype, "number")
    )
    frame = load_iris(as_frame=True).data
    refusal = refuse(dump(by_class.fit(frame)), "global_not_allowed")
    assert "as text, such as 'number'" in refusal.message
    load_estimator(dump(by_text.fit(frame)))


def test_nothing_of_scipy_stats_and_no_dotted_name_is_in_the_policy() -> None:
    names = load_policy().names
    assert not [pair for pair in names if pair[0].startswith("scipy.stats") or "." in pair[1]]
