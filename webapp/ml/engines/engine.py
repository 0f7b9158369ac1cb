"""What every engine does: answer for a matrix that has been checked."""

from typing import Any, Protocol

from webapp.ml.passport import EngineName


class Engine(Protocol):
    """Runs one fitted model."""

    name: EngineName

    def run(self, X: Any, *, finite: bool, probabilities: bool) -> tuple[Any, Any]:
        """Return what ``predict`` answers, and ``predict_proba`` if it is asked for, else None."""
