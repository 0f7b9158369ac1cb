"""One endpoint of Flask, or of the service's kind of Flask, with the hooks or without them."""

import os
from typing import Any

from flask import Flask

from webapp import metrics, settings
from webapp.events import handlers
from webapp.web import hooks
from webapp.web.body import OrjsonProvider
from webapp.web.service import Service

app: Flask
if os.environ["SERVICE"] == "1":
    app = Service(__name__)
    app.json = OrjsonProvider(app)
else:
    app = Flask(__name__)

if os.environ["HOOKS"] == "1":
    loaded = settings.load()
    handlers.configure(loaded, on_written=metrics.count_log_record)
    hooks.init_app(app, loaded)


@app.get("/answer")
def answer() -> dict[str, Any]:
    """Answer what a prediction would."""
    return {"success": True, "data": {"predictions": [0, 1, 2], "rows": 3}}
