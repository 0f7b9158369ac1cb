"""The OpenAPI document of the API, gathered from the views by spectree, and its page."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from flask import Flask, Response, jsonify, render_template
from pydantic import BaseModel
from spectree import Response as Responses
from spectree import SecurityScheme, SpecTree
from spectree.models import SecureType, SecuritySchemeData
from spectree.plugins.flask_plugin import FlaskPlugin

from webapp.web.schemas import Failure

V = TypeVar("V", bound=Callable[..., Any])
VERSION: Final = "0.1.0"
CSV: Final = "text/csv"
_CSV_CONTENT: Final = {CSV: {"schema": {"type": "string"}}}
_TOKEN: Final = "token"  # noqa: S105 - the name of the scheme


class _DocumentingPlugin(FlaskPlugin):
    """Document views without touching their requests.

    The library's own reader answers broken JSON as a missing field and repeats what was sent.
    """

    def validate(self, func: Callable[..., Any], *options: Any, **kwargs: Any) -> Any:
        return func(**kwargs)


class _CsvResponses(Responses):
    """Responses of which the successful one can be had as CSV too."""

    def generate_spec(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        responses: dict[str, Any] = super().generate_spec(*args, **kwargs)
        responses["200"]["content"] |= _CSV_CONTENT
        return responses


def _model_name(model: type[BaseModel]) -> str:
    return re.sub(r"\W+", "_", model.__name__).strip("_")


_spec: Final = SpecTree(
    "flask",
    backend=_DocumentingPlugin,
    mode="strict",
    annotations=False,
    title="Pellucid",
    version=VERSION,
    description="Serve scikit-learn models over REST, and see everything that happened.",
    naming_strategy=_model_name,
    nested_naming_strategy=lambda parent, child: re.sub(r"\W+", "_", child).strip("_"),
    validation_error_status=400,
    validation_error_model=Failure,
    security_schemes=[
        SecurityScheme(
            name=_TOKEN,
            data=SecuritySchemeData(type=SecureType.HTTP, scheme="bearer", bearer_format="JWT"),
        )
    ],
)


def documented(
    tag: str,
    answer: type[BaseModel] | None = None,
    *,
    status: int = 200,
    json: type[BaseModel] | None = None,
    form: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    failures: Sequence[int] = (),
    public: bool = False,
    csv: bool = False,
) -> Callable[[V], V]:
    """Describe a view: what it takes, what it answers, also as CSV or not, and how it can fail."""
    statuses = {*failures, *(() if public else (401,)), *((400,) if json or form or query else ())}
    responses = {f"HTTP_{failure}": Failure for failure in sorted(statuses)}
    kind = _CsvResponses if csv else Responses
    described: Callable[[V], V] = _spec.validate(
        json=json,
        form=form,
        query=query,
        resp=kind(**{f"HTTP_{status}": answer}, **responses),
        tags=[tag],
        security={} if public else {_TOKEN: []},
    )
    return described


def init_app(app: Flask) -> None:
    """Serve the document and its page, which loads nothing from elsewhere."""
    _spec.app = app

    def openapi() -> Response:
        return jsonify(_document(app))

    def page() -> str:
        return render_template("docs.html")

    app.add_url_rule("/api/v1/openapi.json", view_func=openapi)
    app.add_url_rule("/api/v1/docs", view_func=page)


def _document(app: Flask) -> dict[str, Any]:
    document = app.extensions.get("openapi")
    if document is None:
        document = app.extensions["openapi"] = _spec._generate_spec()
        for operations in document["paths"].values():
            for operation in operations.values():
                # What answers in CSV takes it, and spectree knows of JSON and forms only.
                if CSV in operation["responses"].get("200", {}).get("content", {}):
                    operation["requestBody"]["content"] |= _CSV_CONTENT
    return dict(document)
