"""One Flask endpoint, with the hooks of the service or without: `HOOKS=1`."""

import os
from typing import Any

from webapp import metrics, settings
from webapp.events import handlers
from webapp.web import hooks
from webapp.web.body import OrjsonProvider
from webapp.web.service import Service

app = Service(__name__)
app.json = OrjsonProvider(app)

if os.environ["HOOKS"] == "1":
    loaded = settings.load()
    handlers.configure(loaded, on_written=metrics.count_log_record)
    hooks.init_app(app, loaded)


@app.get("/answer")
def answer() -> dict[str, Any]:
    """Answer what a prediction would."""
    return {"success": True, "data": {"predictions": [0, 1, 2], "rows": 3}}
