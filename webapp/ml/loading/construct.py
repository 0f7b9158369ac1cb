"""Makes objects of judged nodes: builders for calls, empty instances that are filled afterwards."""

import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from sklearn.isotonic import IsotonicRegression

from webapp.ml.loading.arrays import MAX_DIMENSIONS, Layout
from webapp.ml.loading.nodes import (
    ATOMS,
    NO_STATE,
    Call,
    Global,
    Members,
    New,
    Node,
    Pairs,
    RawArray,
)
from webapp.ml.loading.policy import Role
from webapp.ml.loading.refusals import demand, over_limit
from webapp.ml.loading.structure import MAX_DEPTH

MAX_ARRAY_BYTES: Final = 256 * 2**20
# Of a list that becomes a set: its items cost time to check, more than they cost memory.
_ITEM_BYTES: Final = 512
_MAX_KEY: Final = 2**60
_MISSING: Final = object()


class Construction:
    """Makes each node once, so that what a file shares stays shared."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._empty: list[tuple[Any, New]] = []
        self._last: list[Callable[[], None]] = []
        self._bytes = MAX_ARRAY_BYTES
        self._depth = 0

    def make(self, root: Node) -> Any:
        """Make the object of a node and everything below it."""
        made = self.value(root)
        # Not within each other: instances may be linked to a long chain.
        while self._empty:
            instance, node = self._empty.pop()
            self._fill(instance, node)
        while self._last:
            self._last.pop()()
        return made

    def value(self, node: Node) -> Any:
        """Make one object; instances below it are still empty."""
        kind = type(node)
        if kind in ATOMS:
            return node
        if kind is Global:
            return self._value_of_name(node)
        made = self._made.get(id(node), _MISSING)
        if made is not _MISSING:
            return made
        self._depth += 1
        # A list, its parts and theirs: two calls of ours for a level of nodes.
        if self._depth > 2 * MAX_DEPTH:
            raise over_limit("levels", MAX_DEPTH)
        made = _MAKERS[kind](self, node)
        self._depth -= 1
        self._made[id(node)] = made
        return made

    def _value_of_name(self, node: Global) -> Any:
        demand(
            node.entry.role in (Role.VALUE, Role.TRUSTED, Role.INSTANCE),
            f"{node.module}.{node.name} where a value should be",
        )
        return node.entry.target

    def _make_list(self, node: list[Node]) -> list[Any]:
        return [self.value(item) for item in node]

    def _make_tuple(self, node: tuple[Node, ...]) -> tuple[Any, ...]:
        return tuple([self.value(item) for item in node])

    def _make_dict(self, node: Pairs) -> dict[Any, Any]:
        return {self._key(key): self.value(value) for key, value in node.items}

    def _make_set(self, node: Members) -> Any:
        members = [self._key(member) for member in node.members]
        return frozenset(members) if node.frozen else set(members)

    def _key(self, node: Node) -> Any:
        """Make something that is hashed; only what takes no time to hash."""
        key = self.value(node)
        for part in key if type(key) is tuple and len(key) <= MAX_DIMENSIONS else (key,):
            plain = type(part) in (str, float, bool, type(None), bytes, type) or isinstance(
                part, np.generic
            )
            # Up to here equal hashes mean equal numbers; beyond, thousands can share one.
            demand(plain or (type(part) is int and abs(part) < _MAX_KEY), "an odd key or member")
        return key

    def _make_raw(self, node: RawArray) -> np.ndarray[Any, Any]:
        self._charge(len(node.content))
        return Layout(node.dtype, node.shape, node.order).read(node.content)

    def _call(self, node: Call) -> Any:
        args = tuple([self._argument(arg) for arg in node.args])
        return self._build(node.target, args, node.state)

    def _argument(self, node: Node) -> Any:
        if type(node) is Global and node.entry.role is Role.CALLED:
            return None  # Cython names the class that its function makes; the builder knows it
        return self.value(node)

    def _build(self, target: Global, args: tuple[Any, ...], state_node: Node) -> Any:
        state = NO_STATE if state_node is NO_STATE else self.value(state_node)
        for part in (*args, *_parts(state)):
            # The same array or list may be named again and again.
            if isinstance(part, np.ndarray):
                self._charge(part.nbytes)
            elif type(part) is bytes:
                self._charge(len(part))
            elif type(part) is list:
                self._charge(_ITEM_BYTES * len(part))
        if target.name in ("set", "frozenset") and args:
            args = ([self._key(member) for member in args[0]],)
        return target.entry.target(args, state)

    def _new(self, node: New) -> Any:
        entry = node.target.entry
        if entry.role is Role.BUILT:
            return self._build(node.target, (), node.state)
        demand(entry.role in (Role.INSTANCE, Role.TRUSTED), "an array without its description")
        # Its own __new__ is not called: that of a deprecated class would warn.
        base = dict if issubclass(entry.target, dict) else object
        instance = base.__new__(entry.target)
        self._empty.append((instance, node))
        return instance

    def _fill(self, instance: Any, node: New) -> None:
        for key, value in node.items:
            demand(type(key) is str, "an odd key")
            dict.__setitem__(instance, key, self.value(value))
        if node.state is NO_STATE:
            return
        state = self.value(node.state)
        if node.target.entry.role is Role.TRUSTED:
            self._last.append(lambda: _set_trusted_state(instance, state))
            return
        if state is None or isinstance(instance, dict):
            return  # a Bunch keeps its values as items
        state.pop("_sklearn_version", None)
        vars(instance).update({sys.intern(key): value for key, value in state.items()})
        if type(instance) is IsotonicRegression and "X_thresholds_" in state:
            # It leaves its interpolation out of the file, and makes it anew.
            self._last.append(
                lambda: instance._build_f(instance.X_thresholds_, instance.y_thresholds_)
            )

    def _charge(self, size: int) -> None:
        self._bytes -= size
        if self._bytes < 0:
            raise over_limit("bytes of arrays", MAX_ARRAY_BYTES)


def _parts(state: Any) -> tuple[Any, ...]:
    if type(state) is dict:
        return tuple(state.values())
    return state if type(state) is tuple else (state,)


def _set_trusted_state(instance: Any, state: Any) -> None:
    if hasattr(instance, "__setstate__"):
        instance.__setstate__(state)
    else:
        demand(type(state) is dict, "an instance's state that is no dict")
        vars(instance).update(state)


_MAKERS: Final[dict[type, Callable[[Construction, Any], Any]]] = {
    list: Construction._make_list,
    tuple: Construction._make_tuple,
    Pairs: Construction._make_dict,
    Members: Construction._make_set,
    RawArray: Construction._make_raw,
    Call: Construction._call,
    New: Construction._new,
}
