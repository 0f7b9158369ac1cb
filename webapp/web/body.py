"""The one reader of request bodies: media type, size, JSON, then the schema; and its opposite."""

import gc
from typing import Any, TypeVar

import orjson
from flask import Response, request
from flask.json.provider import JSONProvider
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from webapp.errors import InvalidInputError, UnsupportedMediaTypeError
from webapp.events import canonical, redact
from webapp.ml.delimited import read_rows
from webapp.parts import parts
from webapp.services.predictions import RowsReader
from webapp.web.schemas import RequestBody

M = TypeVar("M", bound=BaseModel)
_SHOWN_CHARS = 100
# Each that is unknown would cost a hundred times what it takes to send it.
_MOST_FIELDS = 1000
_CHARSETS = {"utf-8", "utf8", "us-ascii"}
# The parameter of text/csv in RFC 4180, section 3.
_HEADERS = {"present": True, "absent": False}


class OrjsonProvider(JSONProvider):
    """Write answers with orjson: strict, NaN as null, times in ISO 8601 with Z."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Serialise as text, for templates."""
        return _dumps(obj).decode()

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Make the answer of Flask's ``jsonify`` and of returned dicts."""
        body = _dumps(self._prepare_response_obj(args, kwargs))
        return Response(body, content_type="application/json")

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """Parse strict JSON."""
        return orjson.loads(s)


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)


def read_json(model: type[M]) -> M:
    """Read the body of the current request.

    Raises
    ------
    UnsupportedMediaTypeError : the body is not said to be JSON
    InvalidInputError : it is not strict JSON or not of this shape; no value is repeated
    """
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if request.mimetype != "application/json" or charset not in _CHARSETS:
        raise UnsupportedMediaTypeError(
            "the body must be JSON in UTF-8: send Content-Type: application/json"
        )
    if "HTTP_CONTENT_ENCODING" in request.environ:
        raise UnsupportedMediaTypeError("the body must not be compressed")
    if issubclass(model, RequestBody) and model.most_bytes is not None:
        most = request.max_content_length or model.most_bytes
        request.max_content_length = min(most, model.most_bytes)
    try:
        content = parse(read_bytes())
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(
            f"the body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    _conceal_secrets(content)
    return validate(model, content)


def read_csv(*, header: bool | None = None) -> RowsReader:
    """Read the body of the current request as CSV; its rows depend on the model they are for.

    ``header`` is what counts where the media type does not say whether there is one.

    Raises
    ------
    UnsupportedMediaTypeError : it is said to be something else, or in another charset than UTF-8
    """
    said = {name: value.lower() for name, value in request.mimetype_params.items()}
    named, charset = said.get("header", "absent"), said.get("charset", "utf-8")
    if request.mimetype != "text/csv" or named not in _HEADERS or charset not in _CHARSETS:
        raise UnsupportedMediaTypeError(
            "the body must be CSV in UTF-8: send Content-Type: text/csv, with header=present or"
            " header=absent if need be"
        )
    if "header" in said:
        header = _HEADERS[named]
    data, max_rows = read_bytes(), parts().settings.max_rows
    return lambda predictor: read_rows(data, predictor, header=header, max_rows=max_rows)


def read_query(model: type[M]) -> M:
    """Read the query string of the current request; each name may occur once."""
    repeated = [name for name, values in request.args.lists() if len(values) > 1]
    if repeated:
        raise InvalidInputError(f"{repeated[0][:_SHOWN_CHARS]} may be given once only")
    return validate(model, request.args.to_dict())


def validate(model: type[M], content: Any) -> M:
    """Check values against a schema.

    Raises
    ------
    InvalidInputError : one message for all that is wrong, with ``details["errors"]``
    """
    if isinstance(content, dict) and len(content) > _MOST_FIELDS:
        raise InvalidInputError(f"there may be at most {_MOST_FIELDS} fields")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [
            {
                "field": ".".join(map(str, problem["loc"]))[:_SHOWN_CHARS] or "body",
                "message": problem["msg"],
            }
            for problem in error.errors(
                include_input=False, include_url=False, include_context=False
            )[:20]
        ]
        summary = "; ".join(f"{problem['field']}: {problem['message']}" for problem in problems)
        raise InvalidInputError(summary, {"errors": problems}) from None


def read_bytes() -> bytes:
    """Read the whole body of the current request, within the limit."""
    data = request.get_data(cache=False)
    # A chunked body has no length to refuse by, and werkzeug stops reading at the limit without
    # a word.
    if request.content_length is None and len(data) == request.max_content_length:
        raise RequestEntityTooLarge
    return data


def parse(data: bytes) -> Any:
    """Parse JSON without looking for cycles in between: millions of lists are looked at each time.

    A parser makes no cycles.
    """
    gc.disable()
    try:
        return orjson.loads(data)
    finally:
        gc.enable()


def _conceal_secrets(content: Any) -> None:
    event = canonical.current()
    if event is not None and isinstance(content, dict):
        event.conceal(
            value
            for name, value in content.items()
            if isinstance(value, str) and redact.is_sensitive(name)
        )
