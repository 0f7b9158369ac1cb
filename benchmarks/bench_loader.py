"""What safe loading costs: beside joblib.load, and as an upload that is judged in a child.

``make bench-loader`` prints the figures, with one thread as a worker has.
"""

import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from benchmarks import machine
from webapp.ml.loading import judge, load_estimator, share

MOST_TIMES_JOBLIB = 4.0
FOREST = "random forest, 100 trees"
SMALL = "logistic regression"
MOST_SECONDS = {FOREST: 1.5, SMALL: 0.5}
ROUNDS = 7


def models() -> dict[str, Any]:
    """Fit what is measured."""
    X, y = make_classification(12_000, 20, n_informative=10, random_state=0)
    many, labels = make_classification(200_000, 10, random_state=0)
    forest = RandomForestClassifier(100, random_state=0, n_jobs=-1, min_samples_leaf=3)
    return {
        SMALL: LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)),
        FOREST: forest.fit(X, y),
        "histogram boosting, 10 classes": HistGradientBoostingClassifier(max_iter=20).fit(
            *load_digits(return_X_y=True)
        ),
        "neighbours, 200,000 points": KNeighborsClassifier(algorithm="kd_tree").fit(many, labels),
    }


def best(action: Callable[[], object]) -> float:
    """Return the shortest of some runs, in seconds: the others were disturbed."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def measure(data: bytes, upload: Path) -> tuple[float, float, float]:
    """Measure joblib.load, our loader, and the judging of an upload."""
    upload.write_bytes(data)
    return (
        best(lambda: joblib.load(io.BytesIO(data))),
        best(lambda: load_estimator(data)),
        best(lambda: judge(upload, max_features=10_000)),
    )


def main() -> int:
    """Print the figures; return 1 if one is over its limit."""
    table = Table("model", "MB", "joblib ms", "loader ms", "times", "upload judged ms")
    share()
    over = []
    with tempfile.TemporaryDirectory() as folder:
        for name, estimator in models().items():
            buffer = io.BytesIO()
            joblib.dump(estimator, buffer)
            data = buffer.getvalue()
            theirs, ours, judged = measure(data, Path(folder, "upload"))
            figures = (theirs * 1e3, ours * 1e3, ours / theirs, judged * 1e3)
            table.add_row(name, f"{len(data) / 1e6:.1f}", *(f"{figure:.1f}" for figure in figures))
            if judged > MOST_SECONDS.get(name, 30):
                over.append(f"{name}: judged in {judged:.2f} s")
            if name == FOREST and ours > MOST_TIMES_JOBLIB * theirs:
                over.append(f"{name}: {ours / theirs:.1f} times joblib.load")
    console = Console()
    console.print(machine.describe())
    console.print(table)
    for line in over:
        console.print(f"over the limit: {line}", style="bold red")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
