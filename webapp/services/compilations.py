"""Compiling: after an upload, out of its way, an accepted model is tried on a faster engine."""

import logging
import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import Final

from flask import Flask, current_app
from sqlalchemy import delete, select

from webapp.db.engine import write_transaction
from webapp.db.tables import DueCompilation, ModelVersion
from webapp.ml.loading import Allowed, compile_model
from webapp.ml.passport import Compilation, Passport
from webapp.ml.store import ModelStore
from webapp.services.registry import Registry
from webapp.settings import Settings

logger = logging.getLogger(__name__)

MOST_ATTEMPTS: Final = 3
RETRY_SECONDS: Final = 60


@dataclass(frozen=True)
class Due:
    """A version that is to be compiled, how often that was begun, and rows of its owner's."""

    version_id: str
    passport: Passport
    sample: bytes
    attempts: int


class Compilations:
    """Have the models that are due compiled one after another, in a thread of this process.

    What is due stands in the database, and one process at a time takes from it. So what a process
    leaves undone when it ends goes to any other: the worker in its place, or after a stop of the
    service the first that starts. A model with which too many ended stays on scikit-learn.

    What was found without a sample is recorded in every version that has the file. A sample is the
    affair of its owner: what was found with one is recorded in the version that it came with, and
    stays there until that very version is compiled again. So nobody's rows decide which engine
    serves another's model, and no passport tells of them.
    """

    def __init__(self, settings: Settings, store: ModelStore, registry: Registry) -> None:
        self._settings = settings
        self._store = store
        self._registry = registry
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have what is due compiled soon, unless the settings keep to scikit-learn."""
        if self._settings.engine == "sklearn":
            return
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # werkzeug's
        self._woken.set()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, args=[app], daemon=True, name="compiling"
                )
                self._thread.start()

    def compile_now(self, passport: Passport, version_id: str | None = None) -> Compilation:
        """Compile a model, verify the result, and record what came of it for all workers.

        A version that is named has it recorded in place of what its sample showed.
        """
        return self._compile(passport, b"", version_id)

    def _work(self, app: Flask) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            try:
                with app.app_context():
                    while self._compile_next():
                        pass
            except Exception:  # the database is locked, the disk full: that may pass
                logger.exception("Compiling a model failed")
                time.sleep(RETRY_SECONDS)
                self._woken.set()

    def _compile_next(self) -> bool:
        """Compile a model that is due; tell whether there was one."""
        with self._store.compiling():
            due = _take_due()
            if due is None:
                return False
            if due.attempts <= MOST_ATTEMPTS:
                self._compile(due.passport, due.sample, due.version_id, is_due=True)
            else:
                reason = f"compiling it was begun {MOST_ATTEMPTS} times and never ended"
                given_up = Compilation("sklearn", reason, 0, sampled=bool(due.sample))
                known = due.passport.compilation or given_up
                self._record(due.passport.sha256, known, b"", due.version_id, is_due=True)
        return True

    def _compile(
        self, passport: Passport, sample: bytes, version_id: str | None, *, is_due: bool = False
    ) -> Compilation:
        compilation, graph = compile_model(
            self._store.path(passport.sha256),
            passport,
            sample=sample,
            allowed=Allowed.by(self._settings),
            memory_bytes=self._settings.check_memory_bytes,
        )
        compilation = replace(compilation, sampled=bool(sample))
        self._record(passport.sha256, compilation, graph, version_id, is_due=is_due)
        return compilation

    def _record(
        self,
        digest: str,
        compilation: Compilation,
        graph: bytes,
        version_id: str | None,
        *,
        is_due: bool,
    ) -> None:
        """Write what came of it into the passport of every version that it concerns."""
        with self._store.exclusive(), write_transaction() as session:
            versions = [
                version
                for version in session.scalars(
                    select(ModelVersion).where(ModelVersion.digest == digest).with_for_update()
                )
                if version.id == version_id or not (compilation.sampled or _is_sampled(version))
            ]
            # None is left if the model was deleted meanwhile.
            if versions and graph:
                self._store.keep_graph(digest, graph)
            names: dict[str, str | int] = {}
            for version in versions:
                version.passport = {**version.passport, "compilation": asdict(compilation)}
                if version.id == version_id:
                    names = _names(version)
            if is_due:
                session.execute(
                    delete(DueCompilation).where(DueCompilation.version_id == version_id)
                )
        self._registry.forget()
        logger.info(
            "Model compiled" if compilation.engine == "onnx" else "Model stays on scikit-learn",
            extra={
                **names,
                "engine": compilation.engine,
                "reason": compilation.reason,
                "duration": round(compilation.seconds, 6),
                "details": {"sha256": digest, "verified_rows": compilation.verified_rows},
            },
        )


def _names(version: ModelVersion) -> dict[str, str | int]:
    """Make the fields of a line that say which version it is about."""
    return {
        "model_id": version.model_id,
        "model_name": version.model.name,
        "model_version": version.version,
    }


def _is_sampled(version: ModelVersion) -> bool:
    found = Passport.from_dict(version.passport).compilation
    return found is not None and found.sampled


def _take_due() -> Due | None:
    """Find the version that is to be compiled next, if one is due, and count the attempt.

    To be called by one process at a time. What was begun before waits behind the others.
    """
    with write_transaction() as session:
        due = session.scalar(
            select(DueCompilation)
            .order_by(DueCompilation.attempts, DueCompilation.version_id)
            .limit(1)
            .with_for_update()
        )
        if due is None:
            return None
        due.attempts += 1
        passport = Passport.from_dict(due.version.passport)
        return Due(due.version_id, passport, due.sample, due.attempts)
