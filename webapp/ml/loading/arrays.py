"""Makes numpy's types, numbers and arrays from descriptions that a file claims.

The functions of numpy that honest files name are not called: a data type's state, handed to numpy,
can hide object pointers in plain bytes.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from sklearn.cluster._hdbscan._tree import HIERARCHY_dtype
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.neighbors._kd_tree import KDTree
from sklearn.tree._tree import NODE_DTYPE

from webapp.ml.loading.nodes import NO_STATE
from webapp.ml.loading.refusals import demand, invalid

MAX_ITEM_BYTES: Final = 4096
MAX_DIMENSIONS: Final = 8
_MAX_SIZE: Final = 2**40
PLAIN: Final = (type(None), bool, int, float, str)
# The only tables of records in honest files: nodes of trees, of clusters and of indexes.
_RECORDS: Final[tuple[np.dtype[Any], ...]] = (
    HIERARCHY_dtype,
    NODE_DTYPE,
    PREDICTOR_RECORD_DTYPE,
    KDTree(np.zeros((1, 1))).__getstate__()[2].dtype,
)


@dataclass(frozen=True)
class Layout:
    """How the bytes of an array are to be read."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]

    @property
    def length(self) -> int:
        """Bytes that the array has."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, content: Any) -> np.ndarray[Any, Any]:
        """Copy the array out of bytes, to native byte order."""
        demand(len(content) == self.length, "an array with more or fewer bytes than its shape")
        flat: np.ndarray[Any, Any] = np.empty(0, self.dtype)
        if self.length:  # numpy reads no empty buffer
            flat = np.frombuffer(content, self.dtype)
        array = flat.reshape(self.shape, order=self.order)
        return array.astype(self.dtype.newbyteorder("="), order=self.order)


def make_layout(dtype: Any, shape: Any, order: Any) -> Layout:
    """Check a description of an array of anything but objects."""
    check_shape(shape)
    demand(isinstance(dtype, np.dtype) and not dtype.hasobject, "an array of an odd type")
    demand(order in ("C", "F"), "an array in an odd order")
    return Layout(dtype, shape, order)


def check_shape(shape: Any) -> None:
    """Refuse anything but a short tuple of sizes."""
    sizes = type(shape) is tuple and all(type(size) is int for size in shape)
    demand(sizes and len(shape) <= MAX_DIMENSIONS, "an array with an odd shape")
    demand(all(0 <= size < _MAX_SIZE for size in shape), "an array with an odd shape")


def is_array(array: Any, *shape: int | None, kinds: str = "f") -> bool:
    """Whether something is an array of so many items in each direction; None is any number."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype.kind in kinds
        and array.ndim == len(shape)
        and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    )


def is_count(number: Any, most: int) -> bool:
    """Whether something is a whole number from 0 on."""
    return isinstance(number, (int, np.integer)) and bool(0 <= number <= most)


def make_dtype(args: tuple[Any, ...], state: Any) -> np.dtype[Any]:
    """Make a data type from its code, byte order and fields; flags are not looked at."""
    code: Any = args[0] if args else None
    demand(type(code) is str and len(code) <= 16 and code.isalnum(), "an odd data type")
    if code[0] == "V":
        return _make_records(state)
    demand(code[0] in "biufcOSUmM", "an odd data type")
    dtype: np.dtype[Any] = np.dtype(code)
    demand(0 < dtype.itemsize <= MAX_ITEM_BYTES, "an odd data type")
    if state is NO_STATE:
        return dtype
    demand(type(state) is tuple and len(state) >= 8, "an odd data type")
    order = state[1]
    demand(order in ("<", ">", "|", "="), "an odd byte order")
    if dtype.kind in "mM":
        return _make_time(dtype.kind, order, state)
    return dtype.newbyteorder(order)


def _make_records(state: Any) -> np.dtype[Any]:
    demand(type(state) is tuple and len(state) >= 8, "an odd data type")
    names = state[3]
    for known in _RECORDS:
        if names == known.names:
            return known
    raise invalid("a table of records that is not of a tree's nodes")


def _make_time(kind: str, order: str, state: tuple[Any, ...]) -> np.dtype[Any]:
    # The ninth part is ({}, (unit, step, 1, 1)).
    demand(len(state) > 8 and type(state[8]) is tuple and len(state[8]) == 2, "an odd time")
    unit = state[8][1]
    demand(type(unit) is tuple and len(unit) >= 2 and type(unit[1]) is int, "an odd time")
    name = unit[0].decode("ascii", "replace") if type(unit[0]) is bytes else ""
    demand(name.isalpha() and 0 < unit[1] < 2**31, "an odd time")
    order = order if order in "<>" else "="
    return np.dtype(f"{order}{kind}8[{unit[1]}{name}]")


def make_array(args: tuple[Any, ...], state: Any) -> np.ndarray[Any, Any]:
    """Make an array whose content stands in the stream."""
    demand(len(args) == 3 and args[0] is np.ndarray and args[1] == (0,), "an odd array")
    demand(type(state) is tuple and len(state) == 5, "an odd array")
    _, shape, dtype, fortran, content = state
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return _make_objects(shape, bool(fortran), content)
    layout = make_layout(dtype, shape, "F" if fortran else "C")
    demand(type(content) is bytes, "an odd array")
    return layout.read(content)


def _make_objects(shape: Any, fortran: bool, content: Any) -> np.ndarray[Any, Any]:
    check_shape(shape)
    # numpy would take as many items as the shape says, also from a list that has fewer.
    demand(type(content) is list and len(content) == math.prod(shape), "an odd array of objects")
    array = np.empty(len(content), dtype=object)
    for position, item in enumerate(content):
        array[position] = item
    return array.reshape(shape, order="F" if fortran else "C")


def view_buffer(args: tuple[Any, ...], state: Any) -> np.ndarray[Any, Any]:
    """Make an array as protocol 5 writes it."""
    demand(len(args) == 4 and state is NO_STATE and type(args[0]) is bytes, "an odd array")
    content, dtype, shape, order = args
    return make_layout(dtype, shape, order).read(content)


def make_scalar(args: tuple[Any, ...], state: Any) -> Any:
    """Make a number or text of numpy's own types."""
    demand(len(args) == 2 and state is NO_STATE and type(args[1]) is bytes, "an odd number")
    return make_layout(args[0], (1,), "C").read(args[1])[0]


def make_masked(args: tuple[Any, ...], state: Any) -> Any:
    """Make a masked array; the results table of a search is made of them."""
    demand(len(args) == 4 and args[0] is np.ma.MaskedArray, "an odd masked array")
    demand(type(state) is tuple and len(state) == 7, "an odd masked array")
    _, shape, dtype, fortran, content, mask, fill_value = state
    data = make_array((np.ndarray, (0,), b"b"), (1, shape, dtype, fortran, content))
    demand(type(mask) is bytes, "an odd masked array")
    masked = make_layout(np.dtype(bool), shape, "F" if fortran else "C").read(mask)
    demand(isinstance(fill_value, (np.generic, np.ndarray, *PLAIN)), "an odd masked array")
    return np.ma.MaskedArray(data, masked, fill_value=fill_value)
