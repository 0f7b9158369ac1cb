"""The shapes of requests and answers, as pydantic models."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
)

T = TypeVar("T")


class RequestBody(BaseModel):
    """A request's shape: unknown fields are refused, and so is more than these need."""

    most_bytes: ClassVar[int | None] = 64 * 1024
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Credentials(RequestBody):
    """Who logs in or registers."""

    email: Annotated[StrictStr, Field(max_length=254, examples=["ada@example.com"])]
    password: Annotated[StrictStr, Field(max_length=1024, examples=["correct horse battery"])]


Scope = Literal["predict", "models", "admin"]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it lies beyond the years 1 to 9999") from None


UtcMoment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class NewApiKey(RequestBody):
    """What a key for a machine client is called, what it may do and until when."""

    name: Annotated[StrictStr, Field(pattern=r"^[\w .@:/-]{1,64}$", examples=["nightly scoring"])]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]
    expires_at: UtcMoment | None = None


class ModelChanges(RequestBody):
    """What may be changed of a registered model."""

    name: Annotated[StrictStr, Field(examples=["iris"])] = ""
    description: StrictStr = ""
    shared: StrictBool = False
    engine: Annotated[
        Literal["auto", "sklearn"],
        Field(description="`sklearn` pins the model to scikit-learn, whatever it was compiled to"),
    ] = "auto"


class AliasTarget(RequestBody):
    """Which version an alias names."""

    version: Annotated[StrictInt, Field(ge=1, lt=10**9, examples=[3])]


class PredictRequest(RequestBody):
    """Rows for a model: lists in the order of its features, or objects by feature name."""

    most_bytes = None
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, protected_namespaces=())

    model_id: Annotated[StrictStr, Field(max_length=128, examples=["iris", "iris@3"])]
    input_data: Annotated[list[Any], Field(examples=[[[5.1, 3.5, 1.4, 0.2]]])]
    probabilities: StrictBool = False


class EngineQuery(RequestBody):
    """Which engine answers: the one that serves the model, or scikit-learn itself."""

    engine: Literal["sklearn"] | None = None


class CsvQuery(EngineQuery):
    """What goes with rows in CSV: a body of JSON says this itself."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, protected_namespaces=())

    model_id: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            validate_default=True,
            examples=["iris", "iris@3"],
            description="with a body of CSV: the model",
        ),
    ] = ""
    probabilities: Annotated[
        bool, Field(description="with a body of CSV: whether to answer probabilities too")
    ] = False


# Where a body may be long, its first mistake is told. Gathering all takes seconds and gigabytes.
Parameters = Annotated[dict[str, StrictBool | StrictInt | StrictStr | float], Field(fail_fast=True)]


class InferInput(BaseModel):
    """An input tensor of the Open Inference Protocol."""

    model_config = ConfigDict(hide_input_in_errors=True)

    name: StrictStr
    datatype: StrictStr
    shape: Annotated[list[Annotated[StrictInt, Field(ge=0, lt=2**53)]], Field(max_length=8)]
    parameters: Parameters = {}
    data: list[Any] | None = None


class InferOutput(BaseModel):
    """An output tensor that is asked for."""

    model_config = ConfigDict(hide_input_in_errors=True)

    name: StrictStr
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """A request for inference; what is not known is passed over, as the protocol has it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    id: StrictStr | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[InferInput], Field(min_length=1, fail_fast=True)]
    outputs: Annotated[list[InferOutput], Field(fail_fast=True)] = []


class DataframeSplit(BaseModel):
    """A frame as pandas writes it with `orient="split"`."""

    model_config = ConfigDict(hide_input_in_errors=True)

    columns: Annotated[list[StrictStr | StrictInt], Field(fail_fast=True)]
    data: Annotated[list[list[Any]], Field(fail_fast=True)]


class ScoringRequest(BaseModel):
    """Rows in exactly one of the shapes of MLflow; what is not known is passed over, as there."""

    model_config = ConfigDict(hide_input_in_errors=True)

    dataframe_split: DataframeSplit | None = None
    dataframe_records: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = None
    instances: list[Any] | None = None
    inputs: list[Any] | dict[str, Any] | None = None


class ServingRequest(BaseModel):
    """Rows as TensorFlow Serving takes them: by row in `instances`, by column in `inputs`."""

    model_config = ConfigDict(hide_input_in_errors=True)

    instances: list[Any] | None = None
    inputs: list[Any] | dict[str, Any] | None = None


class UploadForm(BaseModel):
    """The parts of an upload."""

    file: Annotated[str, Field(json_schema_extra={"format": "binary"})]
    name: Annotated[str, Field(examples=["iris"])]
    description: str = ""
    sample: Annotated[
        str | None,
        Field(
            json_schema_extra={"format": "binary"},
            description=(
                "rows as CSV, on which a compiled model must be equal as well; with a header if"
                " the model has feature names"
            ),
        ),
    ] = None


class PageQuery(RequestBody):
    """Which page of a list."""

    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    per_page: Annotated[int, Field(ge=1, le=200)] = 50


class WindowQuery(RequestBody):
    """A stretch of time: `15m`, `24h`, `7d` ago, or ISO 8601."""

    since: Annotated[str | None, Field(examples=["24h", "2026-01-31T10:00:00Z"])] = None
    until: str | None = None


class PerformanceQuery(WindowQuery):
    """A stretch of time, and which endpoint."""

    endpoint: Annotated[str | None, Field(examples=["POST /api/v1/predictions/predict"])] = None


class HistoryQuery(WindowQuery, PageQuery):
    """A stretch of time and a page of it."""


class Success(BaseModel, Generic[T]):
    """Every success has its data in this envelope."""

    success: Literal[True] = True
    data: T


class Failure(BaseModel):
    """Every failure has this form."""

    success: Literal[False] = False
    error: Annotated[str, Field(examples=["ModelNotFoundError"])]
    message: str
    details: dict[str, Any]
    request_id: str


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    page: int
    per_page: int
    total: int


class TokenPair(BaseModel):
    """Tokens for the header `Authorization: Bearer …`."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Field(description="seconds until the access token expires")]


class Account(BaseModel):
    """An account."""

    id: str
    email: str
    role: Literal["user", "admin"]


class ApiKey(BaseModel):
    """A key for a machine client, without its secret."""

    id: str
    name: str
    scopes: list[Scope]
    expires_at: datetime | None
    created_at: datetime
    last_used_at: Annotated[
        datetime | None, Field(description="as far back as the log reaches")
    ] = None


class ShownApiKey(ApiKey):
    """A new key; it is shown this once."""

    key: Annotated[str, Field(examples=["pel_…"])]


class Registered(TokenPair):
    """A new account with its first tokens."""

    user: Account


class Version(BaseModel):
    """One version of a model."""

    version: int
    state: Literal["ready", "quarantined", "rejected", "revalidate"]
    refusal: dict[str, Any] | None
    bytes: int
    sha256: str
    created_at: datetime
    passport: dict[str, Any]


class Model(BaseModel):
    """A registered model."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    name: str
    description: str
    shared: bool
    engine: Literal["auto", "sklearn"]
    owner_id: str
    latest_version: int | None
    created_at: datetime
    updated_at: datetime
    versions: Annotated[list[Version], Field(description="where one model is read")] = []


class Alias(BaseModel):
    """An alias and the version that it names."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    alias: str
    version: int


class Aliases(BaseModel):
    """The versions that the aliases of a model name."""

    aliases: Annotated[dict[str, int], Field(examples=[{"latest": 3, "production": 2}])]


class UploadedModel(BaseModel):
    """What an accepted upload became."""

    id: str
    name: str
    version: int
    passport: dict[str, Any]


class PredictResult(BaseModel):
    """Predictions, in the order of the rows."""

    model_config = ConfigDict(protected_namespaces=())

    predictions: Annotated[
        list[Any],
        Field(
            description="`null` where a number is not finite; labels that JSON does not have, such"
            " as dates or bytes, as text"
        ),
    ]
    probabilities: list[Any] | None = None
    classes: list[Any] | None = None
    model_id: str
    model_version: int
    rows: int
    duration: Annotated[float, Field(description="seconds in the estimator")]
