"""Parses a joblib stream to inert nodes: imports nothing, calls nothing, hashes nothing foreign.

An interpreter of pickle's opcodes (``pickletools`` documents them) that knows the few which
scikit-learn's files need, and makes nodes where pickle would make objects.
"""

import re
import struct
from collections.abc import Callable
from typing import Any, Final

from webapp.ml.loading.arrays import make_layout
from webapp.ml.loading.construct import Construction
from webapp.ml.loading.nodes import (
    NO_STATE,
    Call,
    Global,
    Members,
    New,
    Node,
    Pairs,
    RawArray,
)
from webapp.ml.loading.policy import ARRAY_WRAPPER, BUNCH, CALLABLE, INSTANTIABLE, Entry
from webapp.ml.loading.refusals import (
    demand,
    global_refused,
    invalid,
    over_limit,
    rejected,
    trailing,
    truncated,
)

MAX_OPCODES: Final = 5_000_000
MAX_NODES: Final = 400_000
MAX_TEXT_BYTES: Final = 4 * 2**20
MAX_INTEGER_BYTES: Final = 1024
# An array of objects is a pickle within the pickle; honest ones are not nested further.
MAX_NESTED_STREAMS: Final = 4
PROTOCOLS: Final = (2, 3, 4, 5)
# What a policy says of a module and a name.
Find = Callable[[str, str], Entry]
_MODULE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FLOAT: Final = struct.Struct(">d")


def parse(stream: bytes, find: Find) -> Node:
    """Parse a whole stream to the node of its one object.

    Raises
    ------
    ModelRejectedError : an opcode, name or size that is not allowed, or a stream that is not whole
    """
    if stream[:1] != b"\x80" or stream[1:2] not in (bytes([known]) for known in PROTOCOLS):
        raise invalid("it does not begin like one")
    parser = Parser(stream, find)
    root = parser.parse()
    if parser.position != len(stream):
        raise trailing()
    return root


class Parser:
    """The state of the interpreter; nested streams share the limits and the position."""

    def __init__(self, stream: bytes, find: Find) -> None:
        self.stream = stream
        self.position = 0
        self._look_up = find
        self._view = memoryview(stream)
        self._names: dict[tuple[str, str], Global] = {}
        self._opcodes = MAX_OPCODES
        self._nodes = MAX_NODES
        self._depth = 0
        self._begin()

    def _begin(self) -> None:
        self._protocol = 0
        self._stack: list[Node] = []
        self._marks: list[list[Node]] = []
        self._memo: dict[int, Node] = {}

    def parse(self) -> Node:
        """Parse to the next STOP, behind which the position then is."""
        stream = self.stream
        while True:
            try:
                code = stream[self.position]
                self.position += 1
                self._opcodes -= 1
                if self._opcodes < 0:
                    raise over_limit("pickle operations", MAX_OPCODES)
                if code == _STOP:
                    return self._end()
                operation = _OPERATIONS[code]
                if operation is None:
                    raise _opcode_refused(code)
                operation(self)
            except (IndexError, KeyError):
                # Either the stream ends in the middle, or it takes what was never put there.
                if self.position >= len(stream):
                    raise truncated() from None
                raise invalid("an operation lacks its operands") from None

    def _end(self) -> Node:
        demand(len(self._stack) == 1 and not self._marks, "more than one object")
        return self._stack.pop()

    # Reading: a claimed length is compared with what is there, and never allocated.

    def _take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.stream):
            raise truncated()
        taken = self.stream[self.position : end]
        self.position = end
        return taken

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "little")

    def _short(self, width: int) -> bytes:
        length = self._number(width)
        if length > MAX_TEXT_BYTES:
            raise over_limit("bytes in one text", MAX_TEXT_BYTES)
        return self._take(length)

    def _line(self) -> str:
        end = self.stream.find(b"\n", self.position, self.position + 1024)
        if end < 0:
            raise truncated() if len(self.stream) < self.position + 1024 else invalid("a long name")
        return self._take(end + 1 - self.position)[:-1].decode("utf-8", "replace")

    def _count_node(self) -> None:
        self._nodes -= 1
        if self._nodes < 0:
            raise over_limit("objects", MAX_NODES)

    def _push_node(self, node: Node) -> None:
        self._count_node()
        self._stack.append(node)

    def _pop_mark(self) -> list[Node]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    # Operations that keep the stream going

    def _proto(self) -> None:
        protocol = self._number(1)
        # In the middle of a stream it would switch dotted names on.
        demand(self._protocol == 0 and protocol in PROTOCOLS, "a second or an unknown protocol")
        self._protocol = protocol

    def _frame(self) -> None:
        # A frame tells a reader how much to buffer, and all is in memory here.
        if self._number(8) > len(self.stream) - self.position:
            raise truncated()

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _put(self, width: int) -> None:
        self._memo[self._number(width)] = self._stack[-1]

    def _memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, width: int) -> None:
        self._stack.append(self._memo[self._number(width)])

    # Atoms

    def _signed(self, width: int) -> None:
        self._stack.append(int.from_bytes(self._take(width), "little", signed=True))

    def _unsigned(self, width: int) -> None:
        self._stack.append(self._number(width))

    def _long(self, width: int) -> None:
        length = self._number(width)
        if length > MAX_INTEGER_BYTES:
            raise over_limit("bytes in one number", MAX_INTEGER_BYTES)
        self._signed(length)

    def _float(self) -> None:
        self._stack.append(_FLOAT.unpack(self._take(8))[0])

    def _text(self, width: int) -> None:
        try:
            self._stack.append(str(self._short(width), "utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise invalid("text that is not UTF-8") from None

    def _bytes(self, width: int) -> None:
        # The content of an array may stand here; the stream's own length limits it.
        self._stack.append(self._take(self._number(width)))

    # Containers

    def _tuple(self, length: int) -> None:
        parts = self._stack[len(self._stack) - length :] if length else []
        demand(len(parts) == length, "an operation lacks its operands")
        del self._stack[len(self._stack) - length :]
        self._push_node(tuple(parts))

    def _append(self) -> None:
        item = self._stack.pop()
        demand(type(self._stack[-1]) is list, "items for something that is no list")
        self._stack[-1].append(item)

    def _appends(self) -> None:
        items = self._pop_mark()
        demand(type(self._stack[-1]) is list, "items for something that is no list")
        self._stack[-1].extend(items)

    def _set_items(self, parts: list[Node]) -> None:
        target = self._stack[-1]
        is_bunch = type(target) is New and (target.target.module, target.target.name) == BUNCH
        demand(type(target) is Pairs or is_bunch, "items for something that is no dict")
        demand(len(parts) % 2 == 0, "a key without a value")
        target.items.extend(zip(parts[::2], parts[1::2], strict=True))

    def _setitem(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _dict(self) -> None:
        parts = self._pop_mark()
        self._push_node(Pairs())
        self._set_items(parts)

    def _additems(self) -> None:
        members = self._pop_mark()
        target = self._stack[-1]
        demand(type(target) is Members and not target.frozen, "members for no set")
        target.members.extend(members)

    # Names, calls, state

    def _global(self) -> None:
        module, name = self._line(), self._line()
        if self._protocol < 3 and module == "__builtin__":
            module = "builtins"  # what protocol 2 calls it, for readers of long ago
        self._stack.append(self._find(module, name))

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        demand(type(module) is str and type(name) is str, "a name that is no text")
        self._stack.append(self._find(module, name))

    def _find(self, module: str, name: str) -> Global:
        found = self._names.get((module, name))
        if found is None:
            if not (_MODULE.fullmatch(module) and _NAME.fullmatch(name)):
                raise global_refused(module, name)
            found = Global(module, name, self._look_up(module, name))
            self._names[module, name] = found
        return found

    def _reduce(self) -> None:
        args, target = self._stack.pop(), self._stack.pop()
        demand(type(args) is tuple, "a call without arguments")
        demand(type(target) is Global, "a call of something that is not a name")
        demand(target.entry.role in CALLABLE, "a call of a name that is not for calling")
        self._push_node(Call(target, args))

    def _newobj(self) -> None:
        args, target = self._stack.pop(), self._stack.pop()
        demand(type(target) is Global, "an instance of something that is not a name")
        demand(target.entry.role in INSTANTIABLE, "an instance of a name that is no class here")
        demand(type(args) is tuple and not args, "an instance with arguments")
        self._push_node(New(target))

    def _build(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        demand(type(target) in (Call, New), "state for something that is no instance")
        demand(target.state is NO_STATE, "an instance that is given its state twice")
        if type(target) is New and (target.target.module, target.target.name) == ARRAY_WRAPPER:
            self._stack[-1] = self._array(state)
        else:
            target.state = state

    def _array(self, state: Node) -> Node:
        demand(type(state) is Pairs, "an array with an odd description")
        about = {key: value for key, value in state.items if type(key) is str}
        subclass, dtype = about.get("subclass"), about.get("dtype")
        demand(_is_named(subclass, Global, "ndarray"), "an array of another class")
        demand(_is_named(dtype, Call, "dtype"), "an array of an odd type")
        made = Construction().value(dtype)
        if made.hasobject:
            return self._objects()
        layout = make_layout(made, about.get("shape"), about.get("order"))
        if about.get("numpy_array_alignment_bytes") is not None:
            self._take(self._number(1))
        if layout.length > len(self.stream) - self.position:
            raise truncated()
        content = self._view[self.position : self.position + layout.length]
        self.position += layout.length
        self._count_node()
        return RawArray(layout.dtype, layout.shape, layout.order, content)

    def _objects(self) -> Node:
        demand(self._depth < MAX_NESTED_STREAMS, "arrays of objects in each other")
        outer = self._protocol, self._stack, self._marks, self._memo
        self._depth += 1
        self._begin()
        node = self.parse()
        self._depth -= 1
        self._protocol, self._stack, self._marks, self._memo = outer
        demand(_is_named(node, Call, "_reconstruct"), "an odd array of objects")
        return node


def _is_named(node: Node, kind: type[Any], name: str) -> bool:
    if type(node) is not kind:
        return False
    target: Global = node if kind is Global else node.target
    return bool(target.name == name and target.module.startswith("numpy"))


def _opcode_refused(code: int) -> Exception:
    return rejected(
        "opcode_not_allowed",
        "the file uses the pickle operation"
        f" {chr(code)!a}, which no scikit-learn model needs; save it with joblib.dump",
        opcode=code,
    )


def _push(value: Any) -> Callable[[Parser], None]:
    return lambda parser: parser._stack.append(value)


def _push_new(make: Callable[[], Node]) -> Callable[[Parser], None]:
    return lambda parser: parser._push_node(make())


def _sized(operation: Callable[[Parser, int], None], width: int) -> Callable[[Parser], None]:
    return lambda parser: operation(parser, width)


_STOP: Final = ord(".")
# Everything that is not here is refused: INST, OBJ, EXT, PERSID, NEWOBJ_EX, DUP, the text forms
# of protocol 0, and buffers outside the stream.
_ALLOWED: Final[dict[bytes, Callable[[Parser], None]]] = {
    b"\x80": Parser._proto,
    b"\x95": Parser._frame,
    b"(": Parser._mark,
    b"0": Parser._pop,
    b"1": lambda parser: parser._pop_mark().clear(),
    b"q": _sized(Parser._put, 1),
    b"r": _sized(Parser._put, 4),
    b"\x94": Parser._memoize,
    b"h": _sized(Parser._get, 1),
    b"j": _sized(Parser._get, 4),
    b"N": _push(None),
    b"\x88": _push(True),
    b"\x89": _push(False),
    b"J": _sized(Parser._signed, 4),
    b"K": _sized(Parser._unsigned, 1),
    b"M": _sized(Parser._unsigned, 2),
    b"\x8a": _sized(Parser._long, 1),
    b"\x8b": _sized(Parser._long, 4),
    b"G": Parser._float,
    b"\x8c": _sized(Parser._text, 1),
    b"X": _sized(Parser._text, 4),
    b"\x8d": _sized(Parser._text, 8),
    b"C": _sized(Parser._bytes, 1),
    b"B": _sized(Parser._bytes, 4),
    b"\x8e": _sized(Parser._bytes, 8),
    # Nothing of ours changes it, so that it need not be a bytearray.
    b"\x96": _sized(Parser._bytes, 8),
    b")": _push(()),
    b"\x85": _sized(Parser._tuple, 1),
    b"\x86": _sized(Parser._tuple, 2),
    b"\x87": _sized(Parser._tuple, 3),
    b"t": lambda parser: parser._push_node(tuple(parser._pop_mark())),
    b"]": _push_new(list),
    b"l": lambda parser: parser._push_node(parser._pop_mark()),
    b"a": Parser._append,
    b"e": Parser._appends,
    b"}": _push_new(Pairs),
    b"d": Parser._dict,
    b"s": Parser._setitem,
    b"u": lambda parser: parser._set_items(parser._pop_mark()),
    b"\x8f": _push_new(lambda: Members([])),
    b"\x90": Parser._additems,
    b"\x91": lambda parser: parser._push_node(Members(parser._pop_mark(), frozen=True)),
    b"c": Parser._global,
    b"\x93": Parser._stack_global,
    b"R": Parser._reduce,
    b"\x81": Parser._newobj,
    b"b": Parser._build,
}
_OPERATIONS: Final = [_ALLOWED.get(bytes([code])) for code in range(256)]
