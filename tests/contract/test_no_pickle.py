"""No module of the program has a pickle machine, or anything with one inside, in its hands."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "webapp"
SOURCES = [*sorted(PACKAGE.rglob("*.py")), ROOT / "wsgi.py", ROOT / "gunicorn.conf.py"]
# What unpickles, whatever is below it included.
UNPICKLERS = {
    *("pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"),
    *("joblib", "skops", "torch", "zodbpickle"),
}
MODULES = UNPICKLERS | {
    *("copyreg", "dbm", "yaml", "mlflow", "tensorflow", "keras", "tables", "h5py"),
    # Their queues, pipes and pools hand objects on as pickles.
    *("multiprocessing", "concurrent.futures.process", "xmlrpc"),
    # They run code that they are given.
    *("runpy", "code", "codeop", "timeit", "pdb", "builtins"),
    # They load files of others by pickle.
    *("sklearn.externals", "sklearn.datasets", "sqlalchemy.ext.serializer", "numpy.lib.npyio"),
}
# Whatever they are imported from, called on, or asked for by name.
NAMES = {
    "*",  # from anywhere: nobody knows what
    *("Unpickler", "NumpyUnpickler", "read_pickle", "PickleType", "ProcessPoolExecutor"),
    *("load_model", "read_hdf", "HDFStore", "loadmat", "load_npz", "read_array"),
    *("__import__", "__builtins__", "__reduce_ex__"),
}
# By their full names only, since harmless ones are called so too.
FUNCTIONS = {"numpy.load", "numpy.memmap", "pandas.eval"}
BUILTINS = {"eval", "exec", "compile"}
# For getattr or import_module; to compile is also what becomes of a model.
TEXTS = UNPICKLERS | NAMES | BUILTINS - {"compile"}


def find_unpickling(source: str) -> list[str]:
    """List what in a module's source could unpickle, or run code that it is given."""
    tree = ast.parse(source)
    known = dict(_imported(tree))
    found = [name for name in known.values() if _is_forbidden(name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found += [node.id] if node.id in BUILTINS | NAMES else []
        elif isinstance(node, ast.Attribute):
            name = _full_name(node, known)
            found += [name] if _is_forbidden(name) else []
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            allowed = not isinstance(node.value, ast.Constant) or node.value.value is not False
            found += ["allow_pickle"] if allowed else []
        elif isinstance(node, ast.Constant) and node.value in TEXTS:
            found.append(f"the text {node.value!r}")
    return found


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that imports make, and what they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name, alias.name
                if not alias.asname:
                    yield alias.name.split(".")[0], alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module or ''}.{alias.name}"


def _full_name(node: ast.expr, known: dict[str, str]) -> str:
    """Write a name out; what is no import of the module begins with a dot."""
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, known)}.{node.attr}"
    return known.get(node.id, "") if isinstance(node, ast.Name) else ""


def _is_forbidden(name: str) -> bool:
    parts = name.split(".")
    above = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return bool(above & MODULES) or parts[-1] in NAMES or name in FUNCTIONS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_unpickles(path: Path) -> None:
    assert find_unpickling(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as harmless",
        "from pickle import loads as harmless",
        "def later():\n    import _pickle",
        "import joblib\njoblib.load(x)",
        "from joblib import load",
        "from joblib.numpy_pickle import NumpyUnpickler",
        "import numpy as np\nnp.load(x)",
        "import numpy\nread = numpy.load",
        "import numpy as harmless\nharmless.load(x)",
        "from numpy import load as harmless",
        "from numpy import *\nload(x)",
        "import numpy.random\nnumpy.load(x)",
        "from numpy.lib import format\nformat.read_array(x, True)",
        "import numpy.lib.npyio",
        "reader(x, allow_pickle=True)",
        "reader(x, allow_pickle=flag)",
        "importlib.import_module('dill')",
        "importlib.import_module('pickle').loads(x)",
        "getattr(module, 'Unpickler')",
        "import cloudpickle, os",
        "import marshal",
        "import shelve",
        "import skops.io",
        "import torch as t\nt.load(x)",
        "from sklearn.externals import joblib",
        "from sklearn import externals",
        "import pandas\npandas.read_pickle(x)",
        "pandas.io.pickle.read_pickle(x)",
        "from multiprocessing.connection import Client",
        "import multiprocessing as mp",
        "from concurrent.futures import ProcessPoolExecutor",
        "import sqlalchemy\nsqlalchemy.PickleType",
        "eval(x)",
        "exec(x)",
        "compile(x, '', 'exec')",
        "run = exec",
        "__import__(x)",
        "import builtins\nbuiltins.exec(x)",
        "getattr(builtin, 'exec')",
    ],
)
def test_the_search_would_find_it(source: str) -> None:
    assert find_unpickling(source)


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile(x)",
        "from webapp.ml.loading.loader import load_estimator\nload_estimator(x)",
        "from concurrent.futures import Future",
        "settings.load(x)",
        "reader(x, allow_pickle=False)",
        "code = 1\ncode.imag",
        "'how to pickle onions'",
    ],
)
def test_the_search_lets_the_rest_pass(source: str) -> None:
    assert find_unpickling(source) == []


def test_only_reviewed_code_imports_by_name() -> None:
    importing = set()
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        roots = {name for name in dict(_imported(tree)).values() if name.startswith("importlib")}
        if any(not name.startswith("importlib.metadata") for name in roots):
            importing.add(str(path.relative_to(PACKAGE)))
    # By the exact names of its tables, and of the operator's; by names in the code.
    assert importing == {"ml/loading/policy.py", "cli/logs_group.py"}


def test_only_reviewed_code_gives_an_object_its_state() -> None:
    setting = {
        str(path.relative_to(PACKAGE))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "__setstate__"
    }
    # Of classes that the operator trusts; of a tree whose nodes were checked.
    assert setting == {"ml/loading/construct.py", "ml/loading/natives.py"}


# Python tells every name that one of its pickle machines looks up.
WATCHING = """
import sys
from tests import estimators
from webapp.ml.loading import load_estimator
from webapp.ml.loading.examine import examine
from webapp.ml.loading.inspection import inspect

fitted = [estimators.iris_pipeline, estimators.wine_columns, estimators.cancer_forest]
files = [estimators.dumped(fit) for fit in fitted]
seen = []
sys.addaudithook(lambda event, args: seen.append(args) if event == "pickle.find_class" else None)
for data in files:
    assert load_estimator(data) is not None
    assert examine(data, 1000).bytes == len(data)
    assert not inspect(data).is_refused
print(len(seen))
import joblib, io
joblib.load(io.BytesIO(files[0]))
print(len(seen) > 0)
"""


def test_no_pickle_machine_runs_while_files_are_loaded_tried_and_described() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "0\nTrue\n", done.stderr
