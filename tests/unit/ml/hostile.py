"""Files that attack the reader; each would create the marker file, or crash, if it succeeded."""

import bz2
import functools
import gzip
import io
import lzma
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from tests.estimators import dump, dumped, iris_pipeline


def text(value: str) -> bytes:
    """A string on the stack."""
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def name(module: str, attribute: str) -> bytes:
    """STACK_GLOBAL, which follows dots in the attribute when nobody stops it."""
    return text(module) + text(attribute) + b"\x93"


def stream(*parts: bytes) -> bytes:
    """A whole pickle."""
    return b"\x80\x04" + b"".join(parts) + b"."


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def touch(marker: Path) -> str:
    """The command that an attacker would run."""
    return f"touch {marker}"


def inside_an_estimator(payload: Any) -> bytes:
    """Hide something in an attribute of an honest model."""
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.extra_ = payload
    return dump(model)


def forbidden_names(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Return files and the name that each must be refused for."""
    run = touch(marker)
    instance = b")\x81}"
    return {
        "a shell command": (dump(Call(os.system, run)), "posix.system"),
        "a shell command inside an honest model": (
            inside_an_estimator(Call(os.system, run)),
            "posix.system",
        ),
        "a shell command inside an array of objects": (
            inside_an_estimator(np.array([Call(os.system, run)], dtype=object)),
            "posix.system",
        ),
        "a command whose result is thrown away": (
            stream(name("os", "system"), text(run), b"\x85R0", name("builtins", "int")),
            "os.system",
        ),
        "eval": (dump(Call(eval, f"open({str(marker)!r}, 'w')")), "builtins.eval"),
        "getattr": (dump(Call(getattr, 1, "real")), "builtins.getattr"),
        "exec inside numpy": (
            stream(name("numpy.testing._private.utils", "runstring"), b"0N"),
            "numpy.testing._private.utils.runstring",
        ),
        "a distribution whose state is executed": (
            stream(name("scipy.stats._distn_infrastructure", "rv_frozen"), instance, b"b"),
            "scipy.stats._distn_infrastructure.rv_frozen",
        ),
        "a module that only looks like scikit-learn": (
            stream(name("sklearn_evil", "Model"), instance, b"b"),
            "sklearn_evil.Model",
        ),
        "a dotted name through a module": (
            stream(name("sklearn.datasets._base", "os.mkdir"), text(str(marker)), b"\x85R"),
            "sklearn.datasets._base.os.mkdir",
        ),
        "a dotted name to a method": (
            stream(name("numpy", "ndarray.tofile")),
            "numpy.ndarray.tofile",
        ),
        "an old-style name": (
            b"\x80\x02cos\nsystem\n" + text(run) + b"\x85R.",
            "os.system",
        ),
        "a function that deletes a folder": (
            stream(name("sklearn.datasets", "clear_data_home")),
            "sklearn.datasets.clear_data_home",
        ),
        "a function that reads any file": (
            stream(name("joblib.numpy_pickle", "load")),
            "joblib.numpy_pickle.load",
        ),
        "a wrapper that reads any file": (
            stream(name("joblib.numpy_pickle_compat", "NDArrayWrapper"), instance, b"b"),
            "joblib.numpy_pickle_compat.NDArrayWrapper",
        ),
    }


def machine_abuses(marker: Path) -> dict[str, bytes]:
    """Return files that name only what honest files name."""
    estimator = name("sklearn.linear_model._logistic", "LogisticRegression")
    instance = estimator + b")\x81"
    value = name("numpy", "mean")
    return {
        "a partial of another function": inside_an_estimator(functools.partial(np.mean, 1)),
        "a call of a value": stream(value, text("x"), b"\x85R"),
        "a call of a class": stream(estimator, b")R"),
        "a call of what a call returned": stream(name("numpy", "dtype"), text("f8"), b"\x85R)R"),
        "an instance with arguments": stream(estimator, text("x"), b"\x85\x81"),
        "an instance of a function": stream(value, b")\x81"),
        "a planted method": stream(instance, b"}", text("predict"), value, b"sb"),
        "a planted private method": stream(instance, b"}", text("__setstate__"), value, b"sb"),
        "a planted append": stream(instance, b"}", text("append"), value, b"sb", b"K\x01a"),
        "a state given twice": stream(instance, b"}", text("C"), b"K\x01sb", b"}b"),
        "a state for a class": stream(estimator, b"}", text("fit"), value, b"sb"),
        "slots for a class": stream(estimator, b"N}", text("fit"), value, b"s\x86b"),
        "slots for an instance": stream(instance, b"N}", text("fit"), value, b"s\x86b"),
        "items for an instance": stream(instance, b"(K\x01e"),
        "an item for an instance": stream(instance, text("x"), b"K\x01s"),
        "set members for an instance": stream(instance, b"(K\x01\x90"),
        "an attribute that is no text": stream(instance, b"}K\x01K\x01sb"),
        "two objects": stream(b"K\x01", instance, b"}b"),
        "a persistent id": stream(text("x"), b"Q"),
        "an extension code": stream(b"\x82\x01"),
        "an old-style instance": b"\x80\x02(ios\nsystem\n.",
        "a duplicate": stream(b"K\x012"),
        "hidden objects in a data type": stream(
            name("numpy", "dtype"),
            text("V8"),
            b"\x89\x88\x87R(K\x03",
            text("|"),
            b"N",
            text("a"),
            b"\x85}",
            text("a"),
            name("numpy", "dtype"),
            text("O"),
            b"\x89\x88\x87RK\x00\x86sK\x08K\x01K\x00tb",
        ),
        "fewer objects than the shape says": stream(
            name("numpy._core.multiarray", "_reconstruct"),
            name("numpy", "ndarray"),
            b"K\x00\x85C\x01b\x87R(K\x01M\xff\xff\x85",
            name("numpy", "dtype"),
            text("O"),
            b"\x89\x88\x87R\x89](K\x01etb",
        ),
        "an array of another class": stream(
            name("joblib.numpy_pickle", "NumpyArrayWrapper"),
            b")\x81}(",
            text("subclass"),
            value,
            text("shape"),
            b")",
            text("order"),
            text("C"),
            text("dtype"),
            value,
            b"ub",
        ),
    }


@functools.cache
def damaged_files() -> dict[str, tuple[bytes, str]]:
    """Return files and the reason that each must be refused for."""
    honest = dumped(iris_pipeline)
    packed = dump(iris_pipeline(), compress=3)
    return {
        "nothing": (b"", "invalid_file"),
        "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "invalid_file"),
        "text": (b"model = LogisticRegression()", "invalid_file"),
        "a zip file": (b"PK\x03\x04" + bytes(100), "invalid_file"),
        "an unknown protocol": (b"\x80\x09" + honest[2:], "invalid_file"),
        "half a file": (honest[: len(honest) // 2], "truncated"),
        "a file without its last byte": (honest[:-1], "truncated"),
        "half a compressed file": (packed[: len(packed) // 2], "truncated"),
        "a damaged compressed file": (packed[:50] + b"xxxx" + packed[54:], "invalid_file"),
        "a second object": (honest + pickle.dumps(1), "trailing_bytes"),
        "bytes after a compressed file": (packed + b"x", "trailing_bytes"),
        "bytes after the object in a compressed file": (
            zlib.compress(honest + b"x"),
            "trailing_bytes",
        ),
        "two layers of compression": (zlib.compress(packed), "invalid_file"),
        "a list": (dump([1, 2, 3]), "not_an_estimator"),
        "an array": (dump(np.eye(3)), "not_an_estimator"),
        "a transformer": (dump(FunctionTransformer()), "not_an_estimator"),
        "a class": (dump(LogisticRegression), "not_an_estimator"),
        **{
            f"a bomb ({module.__name__})": (module.compress(bytes(2**25)), "too_large")
            for module in (zlib, gzip, bz2, lzma)
        },
    }


@functools.cache
def honest_compressions() -> dict[str, bytes]:
    """Return one model in every way that joblib.dump can write it."""
    model = iris_pipeline()
    files = {
        method: dump(model, compress=(method, 3))
        for method in ("zlib", "gzip", "bz2", "lzma", "xz")
    }
    files |= {f"protocol {protocol}": dump(model, protocol=protocol) for protocol in (2, 3, 4, 5)}
    plain = io.BytesIO()
    pickle.dump(model, plain)
    return files | {"pickle.dump": plain.getvalue()}
