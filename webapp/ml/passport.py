"""What is known about an accepted model: recorded at upload, read by everything later."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

FeatureKind = Literal["number", "text", "category"]
EngineName = Literal["sklearn", "onnx"]


@dataclass(frozen=True)
class Compilation:
    """What came of compiling a model to ONNX and of comparing it with scikit-learn.

    ``engine`` is the one that serves the model; where it is scikit-learn, ``reason`` says why.
    ``takes_nan`` says that rows with missing values were equal as well; scikit-learn serves
    those otherwise. ``sampled`` says that a sample of the owner's was compared as well.
    """

    engine: EngineName
    reason: str | None
    seconds: float
    verified_rows: int = 0
    max_difference: float = 0.0
    takes_nan: bool = False
    precision: str | None = None  # float32 or float64
    speed_up: float | None = None  # of one row
    onnx_sha256: str | None = None
    onnx_bytes: int | None = None
    sampled: bool = False


@dataclass(frozen=True)
class Passport:
    """The facts of one model file, all of them JSON values; names as in scikit-learn.

    ``accepts_nan`` says that every feature may be missing; where only some may, ``nan_features``
    has their positions.
    """

    estimator: str
    steps: list[str]
    sklearn_version: str
    sklearn_version_here: str
    n_features_in_: int
    feature_names_in_: list[str] | None
    feature_kinds: list[FeatureKind]
    accepts_nan: bool
    nan_features: list[int]
    classes_: list[Any] | None  # labels, or a list of labels per output
    has_predict_proba: bool
    n_outputs: int
    load_seconds: float
    memory_bytes: int
    smoke_prediction: Any  # whatever the model answered to one made-up row
    bytes: int
    sha256: str
    compilation: Compilation | None = None  # not ended yet, or never begun

    @property
    def has_shares(self) -> bool:
        """Whether there are probabilities, and all of them in one matrix."""
        return self.has_predict_proba and self.n_outputs == 1

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Read facts that ``to_dict`` returned."""
        known = {field.name: facts[field.name] for field in fields(cls) if field.name in facts}
        compilation = known.pop("compilation", None)
        return cls(**known, compilation=compilation and Compilation(**compilation))
