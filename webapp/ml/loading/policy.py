"""Which names a model file may use: exact pairs of module and name, resolved once.

A name is an instance (made empty, then filled from a dict), a builder (our own function stands
in for it) or a value (only ever an attribute or an argument). Everything else is refused.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sklearn.utils import all_estimators

from webapp.ml.loading.builders import BUILDERS, Builder
from webapp.ml.loading.refusals import global_refused

# What fitted estimators hold besides estimators. Modules are scikit-learn's own, some private.
INSTANCES: Final = {
    "joblib.numpy_pickle": "NumpyArrayWrapper",
    "scipy.interpolate._bsplines": "BSpline",
    "scipy.sparse._csc": "csc_array csc_matrix",
    "scipy.sparse._csr": "csr_array csr_matrix",
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
    "sklearn.compose._column_transformer": "make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "sklearn.gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels": (
        "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern"
        " PairwiseKernel Product RBF RationalQuadratic Sum WhiteKernel"
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

VALUES: Final = {
    "builtins": "bool float int str",
    "numpy": (
        "bool bool_ float16 float32 float64 int16 int32 int64 int8 ndarray object_ str_ uint16"
        " uint32 uint64 uint8"
        # parameters of transformers: element-wise functions and simple reductions
        " abs absolute arccos arcsin arctan cbrt ceil clip cos cosh deg2rad degrees exp exp2"
        " expm1 fabs floor log log10 log1p log2 max mean median min nan_to_num negative"
        " positive rad2deg radians reciprocal rint round sign sin sinh sqrt square std sum"
        " tan tanh trunc var"
    ),
    "numpy.ma": "MaskedArray",
    "numpy.ma.core": "MaskedArray",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64",
    "numpy.random.bit_generator": "SeedSequence",
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
    "sklearn.utils.validation": "check_array",
}


@dataclass(frozen=True)
class Policy:
    """The resolved names; ``instances`` and ``trusted`` tell what may be done with a class."""

    names: dict[tuple[str, str], Any]
    instances: frozenset[type]
    trusted: frozenset[Any]

    def find(self, module: str, name: str) -> Any:
        """Return what a name stands for.

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
    """Resolve the policy, with further exact names that the operator trusts."""
    estimators = [cls for _, cls in all_estimators() if cls.__module__.startswith("sklearn.")]
    instances = {(cls.__module__, cls.__name__): cls for cls in estimators}
    instances |= _resolve(INSTANCES)
    names: dict[tuple[str, str], Any] = _resolve(VALUES) | instances
    names |= {pair: Builder(build) for pair, build in BUILDERS.items()}
    extra = {pair: _import(*pair) for pair in map(_split, trusted)}
    return Policy(names | extra, frozenset(instances.values()), frozenset(extra.values()))


def _resolve(table: dict[str, str]) -> dict[tuple[str, str], Any]:
    return {
        (module, name): _import(module, name)
        for module, names in table.items()
        for name in names.split()
    }


def _import(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _split(dotted: str) -> tuple[str, str]:
    module, _, name = dotted.rpartition(".")
    return module, name
