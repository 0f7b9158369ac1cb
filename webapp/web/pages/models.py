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
    span, ask = read_span(), parts().answers.ask
    models, total = parts().catalog.list_models(_admin(), 1, _MOST_MODELS)
    uses = ask(queries.models, span.window, None)
    refused = ask(queries.activity, span.window, 20, action="upload_model", outcome="failure")
    return render_template(
        "admin/models.html",
        span=span,
        models=models,
        total=total,
        struck=parts().quarantine.list_struck(),
        uses=with_loads(uses, ask(queries.model_loads, span.window)),
        refused=refused,
        emails=emails_of(
            [*(model.owner_id for model in models), *(one.user_id for one in refused)]
        ),
        refresh=_REFRESH_SECONDS,
    )


def model_page(model_id: str) -> str:
    """Show one model: its versions with their passports, its use, its last predictions."""
    span, ask = read_span(), parts().answers.ask
    model = parts().catalog.get_model(_admin(), model_id)
    uses = [use for use in ask(queries.models, span.window, None) if use.model_id == model.id]
    predictions, total = ask(queries.predictions, None, 1, 20, span.window, model=model.id)
    return render_template(
        "admin/model.html",
        span=span,
        model=model,
        uses=with_loads(uses, ask(queries.model_loads, span.window)),
        predictions=predictions,
        total=total,
        emails=emails_of([model.owner_id, *(row.user_id for row in predictions)]),
    )


def _admin() -> Identity:
    identity: Identity = g.identity
    return identity
