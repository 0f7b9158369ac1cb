"""What a stream is parsed into: plain nodes that do nothing, and that nothing hashes or calls.

A node is an atom (None, bool, int, float, str, bytes), a list, a tuple, or one of the
classes below. Dicts and sets are lists of their parts, because a foreign key could take for ever
to hash.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    import numpy as np

    from webapp.ml.loading.policy import Entry

Node = Any  # a recursive union of ten types would say less than the text above
ATOMS: Final = frozenset((type(None), bool, int, float, str, bytes))
NO_STATE: Final = object()


@dataclass(slots=True, eq=False)
class Global:
    """A name, with what the policy says of it."""

    module: str
    name: str
    entry: "Entry"


@dataclass(slots=True, eq=False)
class Call:
    """REDUCE: a call of a name, with the state that BUILD gave it."""

    target: Global
    args: tuple[Node, ...]
    state: Node = NO_STATE


@dataclass(slots=True, eq=False)
class New:
    """NEWOBJ: an empty instance, with its state and, of a Bunch, its items."""

    target: Global
    state: Node = NO_STATE
    items: list[tuple[Node, Node]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Pairs:
    """A dict: its items in the order of the stream."""

    items: list[tuple[Node, Node]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Members:
    """A set or frozenset: its members in the order of the stream."""

    members: list[Node]
    frozen: bool = False


@dataclass(slots=True, eq=False)
class RawArray:
    """An array whose bytes joblib wrote behind its description."""

    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    content: memoryview


def children(node: Node) -> list[Node]:
    """List the parts of a node; an instance's are the values of its state."""
    kind = type(node)
    if kind is list or kind is tuple:
        return list(node)
    if kind is Pairs:
        return [part for pair in node.items for part in pair]
    if kind is Members:
        return list(node.members)
    if kind is Call:
        return [*node.args, *([] if node.state is NO_STATE else [node.state])]
    if kind is New:
        parts = [part for pair in node.items for part in pair]
        if type(node.state) is Pairs:
            return parts + [value for _, value in node.state.items]
        return parts if node.state is NO_STATE else [*parts, node.state]
    return []
