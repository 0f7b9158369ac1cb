"""Models: what is registered, what it is used for, and what was refused."""

from flask import g, render_template

from webapp.logstore import queries
from webapp.parts import parts
from webapp.services.tokens import Identity
from webapp.web.pages.overview import with_loads
from webapp.web.pages.people import emails_of
from webapp.web.pages.span import read_span

_REFRESH_SECONDS = 60
_MOST_MODELS = 500


def page() -> str:
    """List the registered models with their use, those with strikes, and refused uploads."""
    span, reader = read_span(), parts().page_reader
    models, total = parts().registry.list_models(_admin(), 1, _MOST_MODELS)
    uses = queries.models(reader, span.window, None)
    refused = queries.activity(reader, span.window, 20, action="upload_model", outcome="failure")
    return render_template(
        "admin/models.html",
        span=span,
        models=models,
        total=total,
        struck=parts().quarantine.list_struck(),
        uses=with_loads(uses, queries.model_loads(reader, span.window)),
        refused=refused,
        emails=emails_of(
            [*(model.owner_id for model in models), *(one.user_id for one in refused)]
        ),
        refresh=_REFRESH_SECONDS,
    )


def model_page(model_id: str) -> str:
    """Show one model: its versions with their passports, its use, its last predictions."""
    span, reader = read_span(), parts().page_reader
    model = parts().registry.get_model(_admin(), model_id)
    uses = [use for use in queries.models(reader, span.window, None) if use.model_id == model.id]
    predictions, total = queries.predictions(reader, None, 1, 20, span.window, model=model.id)
    return render_template(
        "admin/model.html",
        span=span,
        model=model,
        uses=with_loads(uses, queries.model_loads(reader, span.window)),
        predictions=predictions,
        total=total,
        emails=emails_of([model.owner_id, *(row.user_id for row in predictions)]),
    )


def _admin() -> Identity:
    identity: Identity = g.identity
    return identity
