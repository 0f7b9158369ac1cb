"""Every estimator of scikit-learn that can be fitted, each fitted once on few rows."""

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import Birch, KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process import kernels as k
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances

X, Y = load_iris(return_X_y=True)
TEXTS = ["red apple pie", "green apple", "blue sky", "grey sky at night", "apple sky"] * 4
LABELS = [0, 0, 1, 1, 0] * 4
_SHORTER = {
    "DictionaryLearning": {"max_iter": 2},
    "FeatureHasher": {"n_features": 64},
    "HashingVectorizer": {"n_features": 64},
    "LatentDirichletAllocation": {"max_iter": 1},
    "MeanShift": {"max_iter": 5, "bin_seeding": True},
    "TSNE": {"max_iter": 250, "perplexity": 5},
    "SparseCoder": {"dictionary": np.eye(4)},
    "MiniBatchDictionaryLearning": {"max_iter": 2},
}
_TWO = Y < 2
_INPUTS: dict[str, tuple[Any, ...]] = {
    "ClassifierChain": (X, np.c_[Y == 0, Y == 1].astype(int)),
    "CountVectorizer": (TEXTS,),
    "DictVectorizer": ([{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}],),
    "FeatureHasher": ([{"a": 1.0}, {"b": 2.0}],),
    "FixedThresholdClassifier": (X[_TWO], Y[_TWO]),
    "GammaRegressor": (X, Y + 1.0),
    "HashingVectorizer": (TEXTS,),
    "IsotonicRegression": (X[:, 0], Y),
    "KernelCenterer": (X @ X.T,),
    "LabelBinarizer": (Y,),
    "LabelEncoder": (Y,),
    "MultiLabelBinarizer": ([[0, 1], [2], [1]],),
    "MultiOutputClassifier": (X, np.c_[Y, Y]),
    "MultiOutputRegressor": (X, np.c_[Y, Y]),
    "MultiTaskElasticNet": (X, np.c_[Y, Y]),
    "MultiTaskElasticNetCV": (X, np.c_[Y, Y]),
    "MultiTaskLasso": (X, np.c_[Y, Y]),
    "MultiTaskLassoCV": (X, np.c_[Y, Y]),
    "RegressorChain": (X, np.c_[Y, Y]),
    "TfidfTransformer": (np.round(X),),
    "TfidfVectorizer": (TEXTS,),
    "TunedThresholdClassifierCV": (X[_TWO], Y[_TWO]),
}


def names() -> list[str]:
    """List all estimators that scikit-learn offers."""
    return [name for name, _ in all_estimators()]


@cache
def fitted(name: str) -> tuple[Any, Any]:
    """Fit one of them; return it and the X that it can be asked about."""
    cls = dict(all_estimators())[name]
    if name == "FrozenEstimator":
        return FrozenEstimator(Ridge().fit(X, Y)), X
    inputs = _INPUTS.get(name, (X, Y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = next(_construct_instances(cls))
        estimator.set_params(**_SHORTER.get(name, {}))
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=0)
        estimator.fit(*inputs)
    return estimator, inputs[0]


def frame() -> pd.DataFrame:
    """Columns of three kinds, with a hole."""
    table = pd.DataFrame(X[:, :2], columns=["length", "width"])
    table["colour"] = np.where(Y == 1, "red", "blue")
    table["size"] = pd.Categorical(np.where(X[:, 0] > 5.8, "large", "small"))
    table.loc[0, "length"] = np.nan
    return table


@cache
def compositions() -> dict[str, tuple[Any, Any]]:
    """Fit what people build of estimators: name → estimator and X."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _fit_compositions()


def _fit_compositions() -> dict[str, tuple[Any, Any]]:
    made = {name: _fit(estimator, data) for name, (estimator, data) in _compositions().items()}
    made["sparse coefficients"] = made["sparse logistic"][0].__class__().fit(X, Y).sparsify(), X
    return made


def _fit(estimator: Any, data: Any) -> tuple[Any, Any]:
    if isinstance(data, tuple):
        return estimator.fit(*data), data[0]
    return estimator.fit(data, LABELS if data is TEXTS else Y), data


def _columns() -> ColumnTransformer:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("colour", OneHotEncoder(handle_unknown="ignore"), ["colour"]),
            ("size", OrdinalEncoder(), ["size"]),
        ]
    )


def _compositions() -> dict[str, tuple[BaseEstimator, Any]]:
    wide = np.column_stack([X, Y == 1])
    sparse = csr_matrix(np.where(X > 3, X, 0))
    small = {"n_estimators": 3, "random_state": 0}
    return {
        "pipeline": (make_pipeline(StandardScaler(), PCA(2), LogisticRegression()), X),
        "columns of a frame": (make_pipeline(_columns(), LogisticRegression()), frame()),
        "pandas output": (
            make_pipeline(StandardScaler(), Ridge()).set_output(transform="pandas"),
            X,
        ),
        "remainder": (
            make_pipeline(
                ColumnTransformer([("a", StandardScaler(), [0])], remainder="passthrough"), Ridge()
            ),
            X,
        ),
        "union": (
            make_pipeline(
                FeatureUnion([("a", PCA(2)), ("b", SelectKBest(f_classif, k=2))]), Ridge()
            ),
            X,
        ),
        "grid search": (GridSearchCV(SVC(), {"C": [0.1, 1.0]}, cv=2), X),
        "grid search of a pipeline": (
            GridSearchCV(
                make_pipeline(StandardScaler(), Ridge()),
                {"ridge__alpha": np.logspace(-1, 1, 3)},
                cv=StratifiedKFold(2, shuffle=True, random_state=0),
                scoring=["r2", "neg_mean_squared_error"],
                refit="r2",
            ),
            X,
        ),
        "randomised search over lists": (
            RandomizedSearchCV(Ridge(), {"alpha": [1, 2, 3]}, n_iter=2, cv=2, random_state=0),
            X,
        ),
        "randomised state": (
            RandomForestRegressor(n_estimators=3, random_state=np.random.RandomState(3)),
            X,
        ),
        "stacking": (
            StackingClassifier(
                [("forest", RandomForestClassifier(**small)), ("svm", SVC(probability=False))],
                cv=2,
            ),
            X,
        ),
        "voting": (VotingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor())]), X),
        "calibrated": (CalibratedClassifierCV(LogisticRegression(), cv=2), X),
        "isotonic calibration": (
            CalibratedClassifierCV(SVC(), method="isotonic", cv=2, ensemble=False),
            X,
        ),
        "temperature": (CalibratedClassifierCV(SVC(), method="temperature", cv=2), X),
        "isotonic, clipping": (IsotonicRegression(out_of_bounds="clip"), (X[:, 0], Y)),
        "sparse logistic": (LogisticRegression(), sparse),
        "sparse array": (SGDClassifier(random_state=0), csr_array(sparse)),
        "sparse svm": (SVC(), sparse),
        "sparse neighbours": (KNeighborsClassifier(), sparse),
        "text": (make_pipeline(TfidfVectorizer(), LogisticRegression()), TEXTS),
        "text, n-grams": (
            make_pipeline(CountVectorizer(analyzer="char_wb", ngram_range=(1, 3)), MultinomialNB()),
            TEXTS,
        ),
        "text, hashed": (make_pipeline(HashingVectorizer(n_features=64), Ridge()), TEXTS),
        "text, stop words": (
            make_pipeline(
                TfidfVectorizer(stop_words=["apple"]), TruncatedSVD(2), LogisticRegression()
            ),
            TEXTS,
        ),
        "dicts": (
            make_pipeline(DictVectorizer(), Ridge()),
            ([{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}] * 3, [0, 1] * 3),
        ),
        "gaussian process": (
            GaussianProcessRegressor(
                k.ConstantKernel(1.0) * k.RBF([1.0] * 4) + k.WhiteKernel() ** 2.0, optimizer=None
            ),
            X,
        ),
        "gaussian process classes": (
            GaussianProcessClassifier(k.Matern(nu=1.5) + k.RationalQuadratic(), optimizer=None),
            X,
        ),
        "boosting of categories": (
            HistGradientBoostingClassifier(max_iter=3, categorical_features=[4]),
            wide,
        ),
        "boosting of a frame": (
            HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype"),
            frame()[["length", "width", "size"]],
        ),
        "boosting, early": (
            HistGradientBoostingClassifier(max_iter=3, early_stopping=True, random_state=0),
            X,
        ),
        "boosting of quantiles": (
            GradientBoostingRegressor(loss="quantile", n_estimators=3, init=Ridge()),
            X,
        ),
        "bagging of features": (
            BaggingClassifier(DecisionTreeClassifier(), max_features=2, **small),
            X,
        ),
        "isolation of features": (IsolationForest(max_features=2, **small), X),
        "pruned tree": (DecisionTreeClassifier(ccp_alpha=0.02, max_leaf_nodes=5), X),
        "tree of several outputs": (DecisionTreeClassifier(max_depth=3), (X, np.c_[Y, Y == 1])),
        "forest with holes": (
            RandomForestClassifier(**small),
            (np.where(X > 5, np.nan, X), Y),
        ),
        "birch": (Birch(threshold=0.05, n_clusters=3, branching_factor=5), X),
        "neighbours, ball tree": (KNeighborsRegressor(algorithm="ball_tree"), X),
        "neighbours, p": (KNeighborsRegressor(algorithm="kd_tree", p=3), X),
        "neighbours, names": (KNeighborsClassifier(), (X, np.array(["a", "bb", "ccc"])[Y])),
        "neighbours, cosine": (KNeighborsClassifier(metric="cosine"), X),
        "neighbours, votes": (KNeighborsClassifier(algorithm="brute", metric="manhattan"), X),
        "neighbours of several outputs": (
            KNeighborsClassifier(weights="distance"),
            (X, np.c_[Y, Y == 1]),
        ),
        "sparse svm with shares": (SVC(probability=True, random_state=0), sparse),
        "one against the rest": (OneVsRestClassifier(SVC(probability=False)), X),
        "network": (MLPClassifier((5,), max_iter=20, random_state=0), X),
        "network, sgd": (MLPClassifier((5,), solver="sgd", max_iter=20, random_state=0), X),
        "nu": (NuSVC(nu=0.2), X),
        "regression vectors": (SVR(kernel="poly", degree=2), X),
        "one class": (OneClassSVM(), X),
        "precomputed": (SVC(kernel="precomputed"), X @ X.T),
        "logarithm": (
            make_pipeline(FunctionTransformer(np.log1p, inverse_func=np.expm1), Ridge()),
            X,
        ),
        "target": (TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1), X),
        "a category less": (OneHotEncoder(drop="first", sparse_output=False), np.round(X)),
        "rare categories": (
            OneHotEncoder(min_frequency=30, drop="if_binary", handle_unknown="infrequent_if_exist"),
            np.round(X),
        ),
        "categories of one's own order": (
            OneHotEncoder(categories=[["red", "blue", "green"]], handle_unknown="ignore"),
            frame()[["colour"]],
        ),
        "hard voting": (VotingClassifier([("a", LogisticRegression()), ("b", SVC())]), X),
        "polynomials": (make_pipeline(PolynomialFeatures(2), Ridge()), X),
        "splines": (make_pipeline(SplineTransformer(4), Ridge()), X),
        "clusters": (make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0)), X),
        "single precision": (KMeans(3, n_init=1, random_state=0), X.astype(np.float32)),
        "big-endian": (Ridge(), X.astype(">f8")),
    }


def ask(estimator: Any, X: Any) -> Iterator[Any]:
    """Yield everything that an estimator answers about X."""
    for method in ("predict", "predict_proba", "decision_function", "transform", "kneighbors"):
        function = getattr(estimator, method, None)
        if function is None:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield method, function(X)
        except Exception as error:  # what the original cannot do, the loaded one cannot either
            yield method, type(error).__name__
