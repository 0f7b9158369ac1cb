"""Reads a joblib stream with a fenced-in pickle machine.

Only the opcodes that honest files need; calls only of our builders; state only into objects that
the machine made itself. Fencing ``find_class`` alone is not enough: BUILD can plant methods, and
REDUCE can call what an earlier call returned.
"""

import functools
import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar, Final

import numpy as np
import sklearn
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from scipy.interpolate import BSpline
from scipy.sparse import csc_array, csc_matrix, csr_array, csr_matrix
from sklearn.isotonic import IsotonicRegression
from sklearn.tree._tree import Tree
from sklearn.utils import Bunch

from webapp.ml.loading import builders
from webapp.ml.loading.builders import Builder, demand
from webapp.ml.loading.policy import Policy
from webapp.ml.loading.refusals import invalid, rejected

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_DEPTH: Final = 4
_OPCODES: Final = (
    "PROTO FRAME STOP MARK POP POP_MARK PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET"
    " NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT"
    " UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8"
    " BYTEARRAY8 STRING BINSTRING SHORT_BINSTRING"
    " EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT"
    " SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD"
)
_STATE_SETTERS: Final[dict[type, Callable[[Any, Any], None]]] = {
    np.ndarray: builders.set_array,
    np.ma.MaskedArray: builders.set_masked,
    Tree: builders.set_tree,
    functools.partial: builders.set_partial,
    **dict.fromkeys(builders.INDEXES, builders.set_index),
    **dict.fromkeys(builders.METRICS, builders.set_metric),
    # Predictions need no random state, and a Bunch keeps its values as items.
    **dict.fromkeys((builders.Dropped, np.random.RandomState, Bunch), lambda _object, _state: None),
}


class FencedUnpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib has no annotations
    """joblib's reader, so that its arrays and all its versions are understood."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        getattr(pickle, name)[0]: NumpyUnpickler.dispatch[getattr(pickle, name)[0]]
        for name in _OPCODES.split()
    }

    def __init__(self, file: BinaryIO, policy: Policy, depth: int = 0) -> None:
        super().__init__("", file, ensure_native_byte_order=True)
        self._policy = policy
        self._depth = depth
        self.sklearn_version: str | None = None

    def load(self) -> Any:
        """Read one object; nothing may be left on the stack or in the frame."""
        loaded = super().load()
        frame = self._unframer.current_frame
        demand(not self.stack and not self.metastack, "more than one object")
        demand(not frame or not frame.read(1), "bytes after the end of the object")
        return loaded

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the policy; nothing is imported, no attribute is followed."""
        if self.proto < 3 and module == "__builtin__":
            module = "builtins"
        return self._policy.find(module, name)

    def load_reduce(self) -> None:
        """Call a builder, and nothing else."""
        args = self.stack.pop()
        target = self.stack[-1]
        demand(type(args) is tuple, "a call without arguments")
        if type(target) is Builder:
            self.stack[-1] = target.build(*args)
        elif self._is_trusted(target):
            self.stack[-1] = target(*args)
        else:
            raise invalid("a call of something that is not a function here")

    def load_newobj(self) -> None:
        """Make an empty instance of a class that the policy has."""
        args = self.stack.pop()
        cls = self.stack.pop()
        if self._is_trusted(cls):
            self.append(cls.__new__(cls, *args))
            return
        demand(isinstance(cls, type) and cls in self._policy.instances, "an odd instance")
        demand(args == (), "an instance with arguments")
        self.append(cls.__new__(cls))

    def load_build(self) -> None:
        """Give an object its state, in the one way that its type allows."""
        state = self.stack.pop()
        target = self.stack[-1]
        setter = _STATE_SETTERS.get(type(target))
        if type(target) is NumpyArrayWrapper:
            self.stack[-1] = self._read_array(state)
        elif setter is not None:
            setter(target, state)
        elif isinstance(target, np.dtype):
            builders.set_dtype(target, state)
        elif type(target) in self._policy.trusted:
            self.stack.append(state)
            pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
        else:
            demand(type(target) in self._policy.instances, "state for an odd object")
            self._fill(target, state)

    def _is_trusted(self, target: Any) -> bool:
        # By identity: what the file made need not have a hash.
        return any(target is known for known in self._policy.trusted)

    def _fill(self, target: Any, state: Any) -> None:
        demand(type(state) is dict, "an instance's state that is no dict")
        demand(not vars(target), "an instance that is given its state twice")
        self._check_version(state.pop("_sklearn_version", None))
        for key in state:
            _check_attribute(type(target), key)
        vars(target).update(state)
        if type(target) in (csr_matrix, csr_array, csc_matrix, csc_array):
            builders.check_sparse(target)
        elif type(target) is BSpline:
            builders.check_spline(target)
        elif type(target) is IsotonicRegression and "X_thresholds_" in state:
            # It leaves its interpolation out of the file, and makes it anew.
            target._build_f(target.X_thresholds_, target.y_thresholds_)

    def _check_version(self, version: Any) -> None:
        if version is None:
            return
        demand(type(version) is str, "an odd scikit-learn version")
        self.sklearn_version = version
        check_sklearn_version(version)

    def _read_array(self, state: Any) -> Any:
        demand(type(state) is dict, "odd array")
        subclass, shape, order, dtype = (
            state.get(key) for key in ("subclass", "shape", "order", "dtype")
        )
        builders.check_shape(shape)
        demand(subclass is np.ndarray and order in ("C", "F"), "odd array")
        demand(isinstance(dtype, np.dtype), "odd array")
        if dtype.hasobject:
            return self._read_objects(dtype)
        padding = state.get("numpy_array_alignment_bytes")
        demand(padding is None or type(padding) is int, "odd array")
        wrapper = NumpyArrayWrapper(
            np.ndarray, shape, order, dtype, numpy_array_alignment_bytes=padding
        )
        return wrapper.read(self, True)

    def _read_objects(self, dtype: Any) -> Any:
        demand(dtype.kind == "O" and self._depth < _MAX_DEPTH, "odd array of objects")
        # A fenced machine again: joblib's own way would fence the names only.
        inner = FencedUnpickler(self.file_handle, self._policy, self._depth + 1)
        array = inner.load()
        demand(type(array) is np.ndarray and array.dtype == object, "odd array of objects")
        return array

    def load_append(self) -> None:
        """Append to a plain list."""
        demand(type(self.stack[-2]) is list, "items for something that is no list")
        super().load_append()

    def load_appends(self) -> None:
        """Extend a plain list."""
        demand(type(self.metastack[-1][-1]) is list, "items for something that is no list")
        super().load_appends()

    def load_setitem(self) -> None:
        """Set an item of a plain dict."""
        demand(type(self.stack[-3]) in (dict, Bunch), "items for something that is no dict")
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set items of a plain dict."""
        demand(type(self.metastack[-1][-1]) in (dict, Bunch), "items for no dict")
        super().load_setitems()

    def load_additems(self) -> None:
        """Add to a plain set."""
        demand(type(self.metastack[-1][-1]) is set, "items for something that is no set")
        super().load_additems()

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.ADDITEMS[0]] = load_additems


def check_sklearn_version(version: str) -> None:
    """Refuse a file of another minor version, whose private attributes differ."""
    if version.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        wanted = ".".join(sklearn.__version__.split(".")[:2])
        shown = ascii(version)[1:-1][:20]
        raise rejected(
            "wrong_sklearn_version",
            f"the model was saved with scikit-learn {shown}, and {sklearn.__version__} runs"
            f" here; fit and save it again with scikit-learn {wanted}",
            sklearn_version=shown,
            sklearn_version_here=sklearn.__version__,
        )


def _check_attribute(cls: type, key: Any) -> None:
    """Refuse an attribute that would stand in for a method of the class."""
    demand(type(key) is str and _IDENTIFIER.fullmatch(key) is not None, "an odd attribute name")
    demand(not key.startswith("__"), "an odd attribute name")
    for base in cls.__mro__:
        if key in vars(base):
            own = vars(base)[key]
            demand(not callable(own) and not hasattr(type(own), "__get__"), "a replaced method")
            return
