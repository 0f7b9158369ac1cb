"""Compiling: after an upload, out of its way, an accepted model is tried on a faster engine."""

import logging
import threading
from queue import SimpleQueue

from flask import Flask, current_app

from webapp.ml.loading import compile_model
from webapp.ml.passport import Compilation, Passport
from webapp.ml.store import ModelStore
from webapp.services.registry import Registry
from webapp.settings import Settings

logger = logging.getLogger(__name__)


class Compilations:
    """Have models compiled one after another, in a thread that starts with the first.

    One that was waiting when its process ended stays on scikit-learn until ``flask models
    verify``.
    """

    def __init__(self, settings: Settings, store: ModelStore, registry: Registry) -> None:
        self._settings = settings
        self._store = store
        self._registry = registry
        self._waiting: SimpleQueue[tuple[Flask, Passport, bytes]] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, passport: Passport, sample: bytes = b"") -> None:
        """Have a model compiled soon, unless the settings keep to scikit-learn.

        ``sample`` is CSV: rows on which both engines must be equal as well.
        """
        if self._settings.engine == "sklearn":
            return
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # werkzeug's
        self._waiting.put((app, passport, sample))
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="compiling")
                self._thread.start()

    def compile_now(self, passport: Passport, sample: bytes = b"") -> Compilation:
        """Compile a model, verify the result, and record what came of it for all workers."""
        compilation, graph = compile_model(
            self._store.path(passport.sha256),
            passport,
            sample=sample,
            trusted=self._settings.trusted_globals,
        )
        self._registry.record_compilation(passport.sha256, compilation, graph)
        logger.info(
            "Model compiled" if compilation.engine == "onnx" else "Model stays on scikit-learn",
            extra={
                "engine": compilation.engine,
                "reason": compilation.reason,
                "duration": round(compilation.seconds, 6),
                "details": {"sha256": passport.sha256, "verified_rows": compilation.verified_rows},
            },
        )
        return compilation

    def _work(self) -> None:
        while True:
            app, passport, sample = self._waiting.get()
            try:
                with app.app_context():
                    self.compile_now(passport, sample)
            except Exception:  # the thread goes on with the next model
                logger.exception("Compiling a model failed")
