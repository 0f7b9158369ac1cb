"""No module of the program has a pickle machine, or anything with one inside, in its hands."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "webapp"
# Modules whose very import would have to be explained.
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "skops"}
# Functions and classes that unpickle, whatever they are imported from or called on.
NAMES = {"NumpyUnpickler", "Unpickler", "read_pickle", "load_model"}
LOADERS = {"joblib": {"load"}, "numpy": {"load"}, "np": {"load"}, "torch": {"load"}}


def find_unpickling(source: str) -> list[str]:
    """List what in a module's source could unpickle."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            root = node.module.split(".")[0]
            names = {alias.name for alias in node.names}
            if root in MODULES or names & (NAMES | LOADERS.get(root, set())):
                found.append(f"{node.module}: {sorted(names)}")
        elif isinstance(node, ast.Attribute):
            base = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in NAMES | LOADERS.get(base, set()):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Name) and node.id in NAMES | {"eval", "exec", "__import__"}:
            found.append(node.id)
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            allowed = not isinstance(node.value, ast.Constant) or node.value.value is not False
            found += ["allow_pickle"] if allowed else []
        elif isinstance(node, ast.Constant) and node.value in MODULES:
            found.append(f"the text {node.value!r}")  # for import_module
    return found


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_module_unpickles(path: Path) -> None:
    assert find_unpickling(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import joblib\njoblib.load(x)",
        "from joblib import load",
        "from joblib.numpy_pickle import NumpyUnpickler",
        "import numpy as np\nnp.load(x)",
        "reader(x, allow_pickle=True)",
        "reader(x, allow_pickle=flag)",
        "importlib.import_module('dill')",
        "import skops.io",
        "pandas.read_pickle(x)",
        "eval(x)",
    ],
)
def test_the_search_would_find_it(source: str) -> None:
    assert find_unpickling(source)


def test_only_the_policy_and_the_loader_import_by_name() -> None:
    importing = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "import_module" in path.read_text()
    }
    assert importing == {"ml/loading/policy.py"}
