"""Who may import whom: the order of house rules, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "webapp"
# Each may import those below it, and itself.
LAYERS = (
    {"app"},
    {"web", "cli"},
    {"parts"},
    {"services"},
    {"logstore", "metrics", "events", "db", "ml"},
    {"confinement"},
    {"settings", "errors", "extensions", "remembered", "launcher", "landlock", "seccomp"},
)
LOWER = {"web": {"cli"}, "cli": {"web"}, "logstore": {"db", "ml", "metrics"}, "ml": {"db"}}


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def _part(module: str) -> str | None:
    return module.split(".")[1] if module.startswith("webapp.") else None


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_a_module_imports_only_what_is_below_it(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        assert path.read_text() == ""
        return
    level = next(i for i, layer in enumerate(LAYERS) if own in layer)
    for part in {_part(module) for module in _imports(path)} - {None, own}:
        below = next(i for i, layer in enumerate(LAYERS) if part in layer)
        assert below >= level, f"{own} imports {part}"
        assert part not in LOWER.get(own, set()), f"{own} imports {part}"


@pytest.mark.parametrize("folder", ["events", "logstore", "ml"])
def test_what_needs_no_flask_imports_none(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        roots = {name.split(".")[0] for name in _imports(path)}
        assert not roots & {"flask", "flask_sqlalchemy", "flask_jwt_extended"}, path


def test_flask_logs_starts_without_the_heavy_libraries() -> None:
    code = (
        "import sys, webapp.cli.logs\n"
        "heavy = {'sklearn', 'numpy', 'pandas', 'flask_sqlalchemy', 'sqlalchemy', 'duckdb'}\n"
        "print(sorted(heavy & set(sys.modules)), [m for m in sys.modules if 'webapp.serv' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"
