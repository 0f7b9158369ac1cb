"""Which names a model file may use, and for what: exact pairs of module and name, resolved once.

Everything else is refused. No name is ever looked up, imported or walked along by a file.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Final

from scipy.sparse import csc_array, csc_matrix, csr_array, csr_matrix
from sklearn.utils import all_estimators

from webapp.ml.loading import arrays, natives
from webapp.ml.loading.refusals import global_refused


class Role(Enum):
    """What a file may do with a name."""

    INSTANCE = "made empty, then filled from a dict; its own __setstate__ is not called"
    BUILT = "an instance that a builder of ours makes from the state"
    CALLED = "a function that a builder of ours stands in for; it is not called itself"
    VALUE = "an attribute's value or an argument"
    TRUSTED = "a class that the operator trusts: its own __setstate__ is called"
    ARRAY = "joblib's description of an array, which the parser reads"
    REFUSED = "nothing: an inspection goes on past it, and no policy has it"


INSTANTIABLE: Final = frozenset((Role.INSTANCE, Role.BUILT, Role.TRUSTED, Role.ARRAY, Role.REFUSED))
CALLABLE: Final = frozenset((Role.CALLED, Role.REFUSED))
ARRAY_WRAPPER: Final = ("joblib.numpy_pickle", "NumpyArrayWrapper")
BUNCH: Final = ("sklearn.utils._bunch", "Bunch")

# What fitted estimators hold besides estimators. Modules are scikit-learn's own, some private.
INSTANCES: Final = {
    "sklearn._loss.link": (
        "HalfLogitLink IdentityLink Interval LogLink LogitLink MultinomialLogit"
    ),
    "sklearn._loss.loss": (
        "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss"
        " HalfPoissonLoss HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss"
        " PinballLoss"
    ),
    "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    "sklearn.cluster._birch": "_CFNode _CFSubcluster",
    "sklearn.cluster._bisect_k_means": "_BisectingTree",
    # _RemainderColsList has no dict of its own, and no file of this version holds one.
    "sklearn.compose._column_transformer": "make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels": (
        "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Hyperparameter"
        " Matern PairwiseKernel Product RBF RationalQuadratic Sum WhiteKernel"
    ),
    "sklearn.metrics._scorer": "_CurveScorer _MultimetricScorer _PassthroughScorer _Scorer",
    "sklearn.model_selection._split": (
        "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut"
        " LeavePOut PredefinedSplit RepeatedKFold RepeatedStratifiedKFold ShuffleSplit"
        " StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit"
    ),
    "sklearn.multiclass": "_ConstantPredictor",
    "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "sklearn.utils._bunch": "Bunch",
    "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
}

BUILT: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("scipy.interpolate._bsplines", "BSpline"): natives.make_spline,
    ("scipy.sparse._csc", "csc_array"): natives.make_sparse(csc_array),
    ("scipy.sparse._csc", "csc_matrix"): natives.make_sparse(csc_matrix),
    ("scipy.sparse._csr", "csr_array"): natives.make_sparse(csr_array),
    ("scipy.sparse._csr", "csr_matrix"): natives.make_sparse(csr_matrix),
}

# numpy renamed its core; files of both names are about.
_NUMPY: Final = ("numpy._core", "numpy.core")
CALLED: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("numpy", "dtype"): arrays.make_dtype,
    **{(f"{numpy}.multiarray", "_reconstruct"): arrays.make_array for numpy in _NUMPY},
    **{(f"{numpy}.multiarray", "scalar"): arrays.make_scalar for numpy in _NUMPY},
    **{(f"{numpy}.numeric", "_frombuffer"): arrays.view_buffer for numpy in _NUMPY},
    ("numpy.ma.core", "_mareconstruct"): arrays.make_masked,
    ("numpy.random._pickle", "__bit_generator_ctor"): natives.drop,
    ("numpy.random._pickle", "__generator_ctor"): natives.make_generator,
    ("numpy.random._pickle", "__randomstate_ctor"): natives.make_random_state,
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): natives.drop,
    # Bytes, before protocol 3 had a form of their own.
    ("_codecs", "encode"): natives.make_bytes,
    ("builtins", "bytes"): natives.make_plain(bytes),
    ("builtins", "bytearray"): natives.make_plain(bytearray, bytes),
    ("builtins", "complex"): natives.make_plain(complex, float, at_most=2),
    ("builtins", "frozenset"): natives.make_plain(frozenset, list),
    ("builtins", "set"): natives.make_plain(set, list),
    ("builtins", "slice"): natives.make_plain(slice, int, str, type(None), at_most=3),
    ("functools", "partial"): natives.make_partial,
    ("sklearn.tree._tree", "Tree"): natives.make_tree,
    ("sklearn.neighbors._ball_tree", "newObj"): natives.make_index,
    ("sklearn.neighbors._kd_tree", "newObj"): natives.make_index,
    ("sklearn.metrics._dist_metrics", "newObj"): natives.make_metric,
    ("sklearn._loss._loss", "__pyx_unpickle_CyHalfMultinomialLoss"): natives.make_multinomial_loss,
    **natives.LOSSES,
}

# Element by element, of one argument: what a FunctionTransformer may apply.
UFUNCS: Final = (
    "abs absolute arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh deg2rad degrees"
    " exp exp2 expm1 fabs floor isfinite isinf isnan log log10 log1p log2 negative positive"
    " rad2deg radians reciprocal rint sign sin sinh sqrt square tan tanh trunc"
)
REDUCTIONS: Final = "clip max mean median min nan_to_num round std sum var"
TYPES: Final = (
    "bool bool_ float16 float32 float64 int16 int32 int64 int8 ndarray object_ str_ uint16"
    " uint32 uint64 uint8"
)
VALUES: Final = {
    "builtins": "bool float int str",
    "numpy": f"{TYPES} {UFUNCS} {REDUCTIONS}",
    "numpy.ma": "MaskedArray",
    "numpy.ma.core": "MaskedArray",
    # Arguments of the builders that make fresh random generators.
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64",
    "numpy.random.bit_generator": "SeedSequence",
    # A Gaussian process' way to be called with other array libraries.
    "scipy._lib.array_api_compat.numpy._aliases": "asarray",
    "scipy.special._ufuncs": "expit logit",
    "sklearn.cluster._kmeans": "_kmeans_single_elkan _kmeans_single_lloyd",
    "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
    "sklearn.feature_selection._univariate_selection": (
        "chi2 f_classif f_oneway f_regression r_regression"
    ),
    "sklearn.metrics._classification": (
        "accuracy_score balanced_accuracy_score brier_score_loss d2_brier_score"
        " d2_log_loss_score f1_score fbeta_score jaccard_score log_loss matthews_corrcoef"
        " precision_score recall_score"
    ),
    "sklearn.metrics._dist_metrics": (
        "ChebyshevDistance32 ChebyshevDistance64 EuclideanDistance32 EuclideanDistance64"
        " ManhattanDistance32 ManhattanDistance64 MinkowskiDistance32 MinkowskiDistance64"
    ),
    "sklearn.metrics._ranking": "average_precision_score roc_auc_score top_k_accuracy_score",
    "sklearn.metrics._regression": (
        "d2_absolute_error_score explained_variance_score max_error mean_absolute_error"
        " mean_absolute_percentage_error mean_gamma_deviance mean_poisson_deviance"
        " mean_squared_error mean_squared_log_error median_absolute_error r2_score"
        " root_mean_squared_error root_mean_squared_log_error"
    ),
    "sklearn.neighbors._ball_tree": "BallTree BallTree32 BallTree64",
    "sklearn.neighbors._kd_tree": "KDTree KDTree32 KDTree64",
    # Only ever with preset arguments, by gradient boosting with categories.
    "sklearn.utils.validation": "check_array",
}

# The attributes that may hold a function, and which; no other attribute may.
_ELEMENTWISE: Final = frozenset((*UFUNCS.split(), "expit", "logit"))
_SCORES: Final = frozenset(
    name
    for module in VALUES
    if module.startswith(("sklearn.metrics._", "sklearn.feature_selection"))
    for name in VALUES[module].split()
)
FUNCTION_ATTRIBUTES: Final[dict[str, frozenset[str]]] = {
    "_kmeans_single": frozenset(VALUES["sklearn.cluster._kmeans"].split()),
    "_score_func": _SCORES,
    "func": _ELEMENTWISE,
    "inverse_func": _ELEMENTWISE,
    "pooling_func": frozenset(REDUCTIONS.split()),
    "score_func": _SCORES,
    "scoring": _SCORES,
}


@dataclass(frozen=True)
class Entry:
    """What the policy says of one name; the target is a class, a value, or our builder."""

    role: Role
    target: Any
    is_trusted: bool = False


@dataclass(frozen=True)
class Policy:
    """The resolved names."""

    names: dict[tuple[str, str], Entry]

    def find(self, module: str, name: str) -> Entry:
        """Return what a name may be used for.

        Raises
        ------
        ModelRejectedError : the exact pair is not in the policy
        """
        try:
            return self.names[module, name]
        except KeyError:
            raise global_refused(module, name) from None


@cache
def load_policy(trusted: tuple[str, ...] = ()) -> Policy:
    """Resolve the policy, with further exact names that the operator trusts.

    Raises
    ------
    ValueError : a trusted name that cannot be imported
    """
    estimators = [cls for _, cls in all_estimators() if cls.__module__.startswith("sklearn.")]
    names = {pair: Entry(Role.VALUE, value) for pair, value in _resolve(VALUES).items()}
    names |= {pair: Entry(Role.INSTANCE, cls) for pair, cls in _resolve(INSTANCES).items()}
    names |= {(cls.__module__, cls.__name__): Entry(Role.INSTANCE, cls) for cls in estimators}
    names |= {pair: Entry(Role.BUILT, build) for pair, build in BUILT.items()}
    names |= {pair: Entry(Role.CALLED, build) for pair, build in CALLED.items()}
    names[ARRAY_WRAPPER] = Entry(Role.ARRAY, None)
    return Policy(names | dict(map(_trust, trusted)))


def _resolve(table: dict[str, str]) -> dict[tuple[str, str], Any]:
    return {
        (module, name): getattr(importlib.import_module(module), name)
        for module, names in table.items()
        for name in names.split()
    }


def _trust(dotted: str) -> tuple[tuple[str, str], Entry]:
    module, _, name = dotted.rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    # An operator's package may fail in any way while it is imported.
    except Exception as error:
        raise ValueError(
            f"{dotted} cannot be imported ({type(error).__name__}); name a class or function of an"
            " installed package, as module.name"
        ) from error
    return (module, name), Entry(
        Role.TRUSTED if isinstance(target, type) else Role.VALUE, target, is_trusted=True
    )
