"""How gunicorn serves Pellucid: `gunicorn` alone, in the project root, is enough."""

import gc
import logging
import os
from typing import Any

# Before numpy is imported anywhere: with one OpenMP thread per core in every worker, some
# estimators fall from thousands of requests per second to about none.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

from webapp import settings as configuration

# A factory that exits would make gunicorn start its workers over and over, so a wrong setting
# ends the program here.
settings = configuration.load_or_exit()
metrics_dir = settings.instance_path / "metrics"
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_dir)

wsgi_app = "wsgi:app"
bind = settings.bind
workers = settings.workers
# gthread, which is as fast as sync workers (README, "How fast it serves"), and a slow client holds
# up one thread of several instead of a worker; and ours ends that at last. Kept-alive connections
# are quicker, but their clients stay with the worker that they met first.
worker_class = "webapp.web.worker.PatientWorker"
threads = settings.threads
keepalive = 0
# Later than a worker's own watch, so that a model which holds Python's lock is known by then.
timeout = max(30, settings.model_seconds + 5)
graceful_timeout = 30
max_requests = 0
limit_request_line = 4094
limit_request_fields = 50
# gunicorn would believe whatever this machine says of scheme and address, and so what a proxy here
# passes on. Only TRUSTED_PROXIES says whom to believe, also behind a unix socket.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
logger_class = "webapp.events.gunicorn_logger.EventLogger"
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Confine the worker, record why others died, tell what waits, go on with what they compiled.

    Also sweep up and watch the time. What was loaded is left out of garbage collections.
    """
    from webapp.confinement import confine_worker
    from webapp.parts import parts
    from webapp.services import upkeep

    confine_worker(network=settings.needs_network)
    with worker.wsgi.app_context():
        for death in worker.deaths:
            parts().quarantine.record(death)
        if worker.is_first:
            parts().acceptance.warn_of_stale()
        parts().compilations.wake()
        upkeep.start(parts().store)
    worker.attempts.watch(settings.model_seconds)
    gc.collect()
    gc.freeze()


def share_processes() -> None:
    """Start what all workers share, before any of them is forked."""
    from webapp import launcher
    from webapp.logstore.archive import archiver_command
    from webapp.ml.loading import parent

    launcher.share(
        parent.server_command(settings.trusted_globals),
        archiver_command(settings.log_dir, settings.log_retention_days, settings.log_max_bytes),
    )
    # One for all workers, so that no more uploads are judged at once than it takes.
    parent.share(settings.trusted_globals)


def on_starting(server: Any) -> None:
    """Refuse what could not work, and load what every worker needs."""
    from webapp.db.schema import check_before_start
    from webapp.ml.loading.policy import load_policy

    server.deaths = []
    server.has_workers = False
    problem = check_before_start(settings)
    if problem is not None:
        configuration.exit_with(problem)
    # Takes a second and 100 MB; the workers share what is there when they are forked.
    try:
        load_policy(settings.trusted_globals)
    except (ImportError, AttributeError, ValueError) as error:
        configuration.exit_with(f"PELLUCID_TRUSTED_GLOBALS: {error}")
    if settings.trusted_globals:
        logging.getLogger("webapp.ml.loading").warning(
            "Names trusted by the operator", extra={"details": {"names": settings.trusted_globals}}
        )
    if settings.sklearn_versions:
        logging.getLogger("webapp.ml.loading").warning(
            "Versions of scikit-learn allowed by the operator",
            extra={"details": {"versions": settings.sklearn_versions}},
        )
    # A signal is lost on a new worker that does not listen yet: importing must not keep it long.
    import prometheus_client  # noqa: F401

    share_processes()


def when_ready(server: Any) -> None:
    """Begin new counts; not before the port is ours, or another server would lose its own."""
    metrics_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    for file in metrics_dir.glob("*.db"):
        file.unlink()


def on_reload(server: Any) -> None:
    """Start what the new settings say, and let the first of the new workers tell what has to wait.

    The old workers keep what they had.
    """
    share_processes()
    server.has_workers = False


def pre_fork(server: Any, worker: Any) -> None:
    """Give the worker the lowest slot that no living worker has, its notes, and what to record."""
    from webapp import launcher
    from webapp.ml.attempts import Attempts

    taken = {other.slot for other in server.WORKERS.values() if other is not worker}
    worker.slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
    worker.attempts = Attempts(settings.threads)
    launcher.revive()
    # The master has no connection to the database, so whoever replaces a dead worker tells it.
    worker.deaths, server.deaths = server.deaths, []
    worker.is_first, server.has_workers = not server.has_workers, True


def post_fork(server: Any, worker: Any) -> None:
    """Count in the files of the worker's slot; the master opens none."""
    from webapp import metrics
    from webapp.ml import attempts

    metrics.use_slot(worker.slot)
    attempts.use(worker.attempts)


def worker_exit(server: Any, worker: Any) -> None:
    """Blame no model for an end in order, which does not wait for long predictions."""
    worker.attempts.end()


def child_exit(server: Any, worker: Any) -> None:
    """Keep what a worker died of for the one that takes its place; a server that stops has none."""
    death = worker.attempts.find_death(worker.pid, settings.model_seconds)
    if death is not None:
        server.deaths.append(death)
