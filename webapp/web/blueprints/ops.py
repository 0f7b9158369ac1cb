"""For orchestrators and scrapers: liveness, readiness and Prometheus metrics."""

import hmac
import ipaddress
from typing import Any

from flask import Blueprint, Response, request
from prometheus_client import CONTENT_TYPE_LATEST

from webapp import confinement
from webapp import metrics as collectors
from webapp.db.schema import find_problem
from webapp.errors import AuthenticationError, PermissionDeniedError
from webapp.extensions import db
from webapp.ml.loading import sandbox
from webapp.parts import parts
from webapp.web.hooks import current_event

blueprint = Blueprint("ops", __name__)

_FORWARDING = (
    *("HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_FORWARDED_", "HTTP_X_REAL_IP"),
    *("HTTP_CF_CONNECTING_IP", "HTTP_TRUE_CLIENT_IP"),
)


@blueprint.get("/healthz")
def healthz() -> dict[str, Any]:
    """Say that this process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> tuple[dict[str, Any], int]:
    """Say whether requests can be served: 503 with the reason if not, degraded if the log is ill.

    A log that cannot be written stops no request, so it does not take the service out of rotation.
    """
    database = find_problem(db.engine)
    log = parts().log_handler.check()
    dropped = collectors.dropped_log_records()
    body = {
        "status": "unavailable" if database else "degraded" if log else "ready",
        "checks": {"database": database or "ok", "log": log or "ok"},
        "log_records_dropped": dropped,
        "sandbox": sandbox.level(),
        "worker_sandbox": confinement.level(),
    }
    if database:
        current_event().annotate(error="ServiceUnavailableError", reason=database)
    return body, 503 if database else 200


@blueprint.get("/metrics")
def metrics() -> Response:
    """Expose the metrics of all workers to whoever has the token, else to this machine."""
    _check_scraper(parts().settings.metrics_token)
    return Response(collectors.exposition(), content_type=CONTENT_TYPE_LATEST)


def _check_scraper(token: str) -> None:
    if token:
        sent = request.headers.get("Authorization", "")
        if not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
            raise AuthenticationError("the metrics need the bearer token METRICS_TOKEN")
        return
    # A reverse proxy on this machine makes every client look local; its header gives it away.
    forwarded = any(name.startswith(_FORWARDING) for name in request.environ)
    if forwarded or not _is_loopback(request.remote_addr):
        raise PermissionDeniedError("without METRICS_TOKEN only this machine may read the metrics")


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return not address  # a unix socket has no address
