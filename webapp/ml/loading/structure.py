"""Judges a graph of nodes before anything is made of it."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import sklearn

from webapp.ml.loading.allowed import minor
from webapp.ml.loading.nodes import ATOMS, NO_STATE, Global, New, Node, Pairs, children
from webapp.ml.loading.policy import FUNCTION_ATTRIBUTES, Role
from webapp.ml.loading.refusals import demand, over_limit, rejected, show
from webapp.settings import MINOR_VERSION

MAX_DEPTH: Final = 60
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Lars has the default of this parameter in its class.
_DEFAULTS: Final = {"positive"}
# The leaves of this tree are a chain in both directions, as long as the tree is wide.
_CHAINED: Final = ("sklearn.cluster._birch", "_CFNode"), ("sklearn.cluster._birch", "_CFSubcluster")


def judge_nodes(root: Node, sklearn_versions: tuple[str, ...] = ()) -> str | None:
    """Demand that nodes can become objects; return the scikit-learn version that saved them.

    ``sklearn_versions`` are allowed besides the one that runs here. Of several, the outermost
    object's is returned.

    Raises
    ------
    ModelRejectedError : a circle, too many levels, an odd attribute or another version
    """
    heights: dict[int, int] = {}
    versions: list[str] = []
    path: list[tuple[Node, Iterator[Node], list[int]]] = []
    on_path: set[int] = set()

    def enter(node: Node) -> None:
        if type(node) is New:
            versions.extend(_check_instance(node, sklearn_versions))
        on_path.add(id(node))
        path.append((node, iter(children(node)), [0]))

    # Its own stack: the depth is the file's choice.
    enter(root)
    while path:
        node, rest, below = path[-1]
        for child in rest:
            if type(child) in ATOMS or type(child) is Global:
                continue
            known = heights.get(id(child))
            if known is not None:
                below.append(known)
            elif id(child) not in on_path:
                enter(child)
                break
            else:
                demand(_is_chained(child), "an object that contains itself")
        else:
            height = max(below) + (not _is_chained(node))
            if height > MAX_DEPTH:
                raise over_limit("levels", MAX_DEPTH)
            heights[id(node)] = height
            on_path.discard(id(node))
            path.pop()
            if path:
                path[-1][2].append(height)
    return versions[0] if versions else None


def _is_chained(node: Node) -> bool:
    return type(node) is New and (node.target.module, node.target.name) in _CHAINED


def _check_instance(node: New, sklearn_versions: tuple[str, ...]) -> Iterator[str]:
    """Check the attributes of an instance; yield the version it was saved with."""
    entry = node.target.entry
    demand(entry.role is not Role.REFUSED, "an instance of a name that is not allowed")
    demand(entry.role is not Role.ARRAY, "an array without its description")
    if entry.role is not Role.INSTANCE or node.state is NO_STATE:
        return
    demand(type(node.state) is Pairs, "an instance's state that is no dict")
    forbidden = _own_names(entry.target)
    for key, value in node.state.items:
        demand(type(key) is str and _IDENTIFIER.fullmatch(key) is not None, "an odd attribute name")
        demand(not key.startswith("__"), "an odd attribute name")
        demand(key not in forbidden, "an attribute that stands in for one of its class")
        if key == "_sklearn_version":
            demand(type(value) is str, "an odd scikit-learn version")
            check_sklearn_version(value, sklearn_versions)
            yield value
        if type(value) is Global:
            _check_name_as_value(key, value)


def _check_name_as_value(attribute: str, value: Global) -> None:
    entry = value.entry
    allowed = FUNCTION_ATTRIBUTES.get(attribute)
    is_function = entry.role is Role.VALUE and not isinstance(entry.target, type)
    if entry.is_trusted or not (is_function or allowed):
        return
    if value.name not in (allowed or ()):
        raise rejected(
            "unsafe_parameter",
            f"the model has {show(value.name)} as {show(attribute)}, which is not loaded here; use"
            " a function of numpy that works element by element, or ask the operator to trust it",
            parameter=show(attribute),
        )


@cache
def _own_names(cls: Any) -> frozenset[str]:
    """List what an attribute of an instance would hide: methods, properties, constants."""
    return frozenset(name for base in cls.__mro__ for name in vars(base)) - _DEFAULTS


def check_sklearn_version(version: str, allowed: tuple[str, ...]) -> None:
    """Refuse a file of another minor version, whose private attributes differ."""
    saved_with, here = minor(version), minor(sklearn.__version__)
    if saved_with not in (here, *allowed):
        shown = show(version)[:20]
        is_version = MINOR_VERSION.fullmatch(saved_with) is not None
        way_out = f", or ask the operator to allow {saved_with}" if is_version else ""
        raise rejected(
            "wrong_sklearn_version",
            f"the model was saved with scikit-learn {shown}, and {sklearn.__version__} runs"
            f" here; fit and save it again with scikit-learn {here}{way_out}",
            sklearn_version=shown,
            sklearn_version_here=sklearn.__version__,
        )
