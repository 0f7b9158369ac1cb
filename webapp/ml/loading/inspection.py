"""Says what a file contains, without making anything of it."""

from dataclasses import dataclass, field
from typing import Any, Final

from webapp.errors import ModelRejectedError
from webapp.ml.loading.allowed import NOTHING_MORE, Allowed
from webapp.ml.loading.decompress import decompress
from webapp.ml.loading.nodes import ATOMS, Call, Global, New, Node, Pairs, RawArray, children
from webapp.ml.loading.opcodes import parse
from webapp.ml.loading.policy import Entry, Policy, Role, load_policy
from webapp.ml.loading.refusals import show
from webapp.ml.loading.structure import judge_nodes

MAX_PARTS: Final = 200
_UNKNOWN: Final = Entry(Role.REFUSED, None)
# How parameters and containers lead to the parts that a reader knows.
_SHOWN_ITEMS: Final = 3


@dataclass(frozen=True)
class UsedName:
    """A name that a file uses, and what for."""

    name: str
    role: str


@dataclass(frozen=True)
class Part:
    """An object in the tree of a model: how deep it is, where it hangs, what it is."""

    depth: int
    place: str
    name: str


@dataclass
class Inspection:
    """What a file contains, and whether its nodes would be taken.

    That they are does not mean that the model is: what is made of them is checked further.
    """

    bytes: int
    stream_bytes: int = 0
    protocol: int | None = None
    sklearn_version: str | None = None
    names: list[UsedName] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    objects: int = 0
    arrays: int = 0
    array_bytes: int = 0
    refusals: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        """Whether there is a reason not to load it."""
        return bool(self.refusals)

    def refuse(self, error: ModelRejectedError) -> None:
        """Add a reason."""
        self.refusals.append({**error.details, "message": error.message})


def inspect(data: bytes, allowed: Allowed = NOTHING_MORE) -> Inspection:
    """Parse and judge a file as an upload is, but go on past names that are not allowed."""
    found = Inspection(len(data))
    policy = load_policy(allowed.names)
    try:
        stream = decompress(data)
        found.stream_bytes = len(stream)
        root = parse(stream, lambda module, name: _look_up(policy, found, module, name))
        found.protocol = stream[1]
        _count(root, found)
        _list_parts(root, found)
        found.sklearn_version = judge_nodes(root, allowed.sklearn_versions)
    except ModelRejectedError as error:
        # Of a name that is not allowed, what it is used for is no reason of its own.
        if not found.refusals:
            found.refuse(error)
    return found


def _look_up(policy: Policy, found: Inspection, module: str, name: str) -> Entry:
    try:
        entry = policy.find(module, name)
    except ModelRejectedError as error:
        found.refuse(error)
        entry = _UNKNOWN
    found.names.append(UsedName(show(f"{module}.{name}"), entry.role.name.lower()))
    return entry


def _count(root: Node, found: Inspection) -> None:
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if type(node) in ATOMS or type(node) is Global or id(node) in seen:
            continue
        seen.add(id(node))
        found.objects += 1
        if type(node) is RawArray:
            found.arrays += 1
            found.array_bytes += len(node.content)
        waiting.extend(children(node))


def _list_parts(root: Node, found: Inspection) -> None:
    """List instances and calls in the order of the file, a few of each container."""
    seen: set[int] = set()
    waiting: list[tuple[int, str, Node]] = [(0, "", root)]
    while waiting and len(found.parts) < MAX_PARTS:
        depth, place, node = waiting.pop()
        if type(node) in ATOMS or type(node) is Global or id(node) in seen:
            continue
        seen.add(id(node))
        if type(node) in (New, Call):
            if not node.target.module.startswith(("numpy", "_codecs", "builtins")):
                found.parts.append(Part(depth, place, show(node.target.name)))
            depth += 1
        waiting.extend(
            (depth, f"{place}{step}" if type(node) not in (New, Call) else step, child)
            for step, child in reversed(_named_children(node))
        )


def _named_children(node: Node) -> list[tuple[str, Node]]:
    items = node.items if type(node) is Pairs else getattr(node, "state", None)
    if type(items) is Pairs:
        items = items.items
    if type(items) is list:
        return [(show(key) if type(key) is str else "[…]", value) for key, value in items]
    if type(node) is list or type(node) is tuple:
        return [(f"[{position}]", item) for position, item in enumerate(node[:_SHOWN_ITEMS])]
    return [("", child) for child in children(node)[:_SHOWN_ITEMS]]
