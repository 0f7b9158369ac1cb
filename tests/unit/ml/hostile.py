"""Files that attack the loader, by kind; each would leave a marker, crash or hang if it succeeded.

What each kind returns: name of the attack → the file, and the reason it must be refused for.
"""

import bz2
import copy
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
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import FunctionTransformer

from tests.estimators import dump, dumped, iris_pipeline
from tests.unit.ml import zoo

Attacks = dict[str, tuple[bytes, str]]
X, Y = load_iris(return_X_y=True)


def text(value: str) -> bytes:
    """A string on the stack."""
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def name(module: str, attribute: str) -> bytes:
    """STACK_GLOBAL, which follows dots in the attribute when nobody stops it."""
    return text(module) + text(attribute) + b"\x93"


def stream(*parts: bytes) -> bytes:
    """A whole pickle."""
    return b"\x80\x04" + b"".join(parts) + b"."


ESTIMATOR = name("sklearn.linear_model._logistic", "LogisticRegression")
INSTANCE = ESTIMATOR + b")\x81"
VALUE = name("numpy", "mean")
DTYPE_O = name("numpy", "dtype") + text("O8") + b"\x89\x88\x87R"
DTYPE_F = name("numpy", "dtype") + text("f8") + b"\x89\x88\x87R"


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


# Callables that do harm with one argument; many are within packages that look trustworthy.
CALLABLES = {
    "os": "system popen mkdir remove execl kill fork",
    "posix": "system",
    "nt": "system",
    "subprocess": "Popen run check_output",
    "pty": "spawn",
    "commands": "getoutput",
    "builtins": "eval exec open getattr __import__ compile globals breakpoint input type vars map",
    "__builtin__": "eval apply",
    "operator": "attrgetter methodcaller call",
    "functools": "reduce partialmethod",
    "itertools": "starmap",
    "importlib": "import_module",
    "importlib.util": "spec_from_file_location",
    "runpy": "run_path _run_code",
    "code": "interact",
    "codeop": "compile_command",
    "timeit": "timeit main",
    "cProfile": "run",
    "profile": "run",
    "pdb": "run",
    "bdb": "Bdb",
    "trace": "Trace",
    "doctest": "debug_script",
    "pydoc": "pipepager locate",
    "webbrowser": "open",
    "shutil": "rmtree copyfile",
    "pathlib.Path": "unlink",
    "tempfile": "mktemp",
    "zipimport": "zipimporter",
    "ctypes": "CDLL string_at",
    "socket": "create_connection",
    "urllib.request": "urlopen",
    "smtplib": "SMTP",
    "ftplib": "FTP",
    "logging.config": "listen",
    "asyncio": "create_subprocess_shell",
    "multiprocessing": "Process",
    "threading": "Thread",
    "types": "FunctionType CodeType",
    "marshal": "loads",
    "pickle": "loads",
    "_pickle": "loads",
    "shelve": "open",
    "dill": "loads",
    "cloudpickle": "loads",
    "copyreg": "_reconstructor __newobj__",
    "codecs": "decode",
    "collections": "namedtuple",
    "sqlite3": "connect",
    "weakref": "finalize",
    "atexit": "register",
    "signal": "signal",
    "gc": "callbacks",
    "numpy": "load save savetxt memmap fromfile frompyfunc vectorize apply_along_axis genfromtxt",
    "numpy.core": "_ufunc_reconstruct",
    "numpy._core._internal": "_ufunc_reconstruct",
    "numpy.testing._private.utils": "runstring measure",
    "numpy.f2py.crackfortran": "getlincoef myeval",
    "numpy.lib._npyio_impl": "NpzFile",
    "numpy.ctypeslib": "load_library",
    "scipy.io": "savemat loadmat",
    "scipy.linalg": "fblas",
    "scipy.stats": "rv_continuous",
    "scipy.stats._distn_infrastructure": "rv_frozen rv_sample",
    "scipy.stats._continuous_distns": "norm_gen",
    "scipy": "LowLevelCallable",
    "joblib": "dump load Memory",
    "joblib.numpy_pickle": "load",
    "joblib.memory": "MemorizedFunc",
    "joblib.parallel": "Parallel",
    "joblib.numpy_pickle_compat": "NDArrayWrapper ZNDArrayWrapper",
    "sklearn.datasets": "clear_data_home load_files fetch_openml",
    "sklearn.datasets._base": "get_data_home",
    "sklearn.utils._joblib": "dump",
    "sklearn.externals.joblib": "load",
    "sklearn.utils.deprecation": "deprecated",
    "sklearn.utils.metaestimators": "_AvailableIfDescriptor",
    "sklearn.metrics": "make_scorer",
    "sklearn.inspection": "PartialDependenceDisplay",
    "sklearn_evil": "Model",
    "sklearn.evil": "Model",
    "numpy_evil": "run",
    "pandas": "read_pickle eval",
    "pandas.io.common": "get_handle",
    "torch": "load",
    "webapp.settings": "load",
    "webapp.ml.loading": "load_estimator",
    "__main__": "Model",
}


def forbidden_names(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Return files and the name that each must be refused for."""
    run = touch(marker)
    called = {
        f"a call of {module}.{function}": (
            stream(name(module, function), text(run), b"\x85R0", INSTANCE, b"}b"),
            f"{module}.{function}",
        )
        for module, functions in CALLABLES.items()
        for function in functions.split()
    }
    return called | {
        "a shell command": (dump(Call(os.system, run)), "posix.system"),
        "a shell command inside an honest model": (
            inside_an_estimator(Call(os.system, run)),
            "posix.system",
        ),
        "a shell command inside an array of objects": (
            inside_an_estimator(np.array([Call(os.system, run)], dtype=object)),
            "posix.system",
        ),
        "eval": (dump(Call(eval, f"open({str(marker)!r}, 'w')")), "builtins.eval"),
        "getattr": (dump(Call(getattr, 1, "real")), "builtins.getattr"),
        "an old-style name": (
            b"\x80\x02cos\nsystem\n" + text(run) + b"\x85R.",
            "os.system",
        ),
        "a name that is only mentioned": (
            stream(name("os", "system"), b"0", INSTANCE),
            "os.system",
        ),
        "a name in a value that is thrown away": (
            stream(b"(", name("os", "system"), b"1", INSTANCE),
            "os.system",
        ),
        "a name behind a broken operation": (
            stream(name("os", "system"), text(run), b"\x85R", b"\xff"),
            "os.system",
        ),
        "a name whose parts come from the memo": (
            stream(text("system"), b"\x94", text("os"), b"\x940", b"0h\x01h\x00\x93"),
            "os.system",
        ),
        "a dotted name through a module": (
            stream(name("sklearn.datasets._base", "os.mkdir"), text(str(marker)), b"\x85R"),
            "sklearn.datasets._base.os.mkdir",
        ),
        "a dotted name to a method": (
            stream(name("numpy", "ndarray.tofile")),
            "numpy.ndarray.tofile",
        ),
        "a dotted name to globals": (
            stream(
                name("sklearn.linear_model._logistic", "LogisticRegression.fit.__globals__"),
            ),
            "sklearn.linear_model._logistic.LogisticRegression.fit.__globals__",
        ),
        "a module of a module": (
            stream(name("sklearn.utils", "warnings")),
            "sklearn.utils.warnings",
        ),
        "the built-ins of a module": (stream(name("numpy", "__builtins__")), "numpy.__builtins__"),
        "a name with a space": (stream(name("numpy ", "dtype")), "numpy .dtype"),
        "a name in other letters": (stream(name("nump\u0443", "dtype")), r"nump\u0443.dtype"),
        "an empty name": (stream(name("", "")), "."),
        "a relative module": (stream(name(".os", "system")), ".os.system"),
    }


def machine_abuses(marker: Path) -> Attacks:
    """Return files that name only what honest files name, in ways that honest files do not."""
    return {
        attack: (data, "invalid_file")
        for attack, data in {
            "a partial of another function": inside_an_estimator(functools.partial(np.mean, 1)),
            "a call of a value": stream(VALUE, text("x"), b"\x85R"),
            "a call of a class": stream(ESTIMATOR, b")R"),
            "a call of what a call returned": stream(DTYPE_F, b")R"),
            "a call without a tuple": stream(name("numpy", "dtype"), text("f8"), b"R"),
            "a call of text": stream(text("os.system"), text(touch(marker)), b"\x85R"),
            "a called name as an attribute": stream(
                INSTANCE, b"}", text("coef_"), name("numpy", "dtype"), b"sb"
            ),
            "an instance with arguments": stream(ESTIMATOR, text("x"), b"\x85\x81"),
            "an instance of a function": stream(VALUE, b")\x81"),
            "an instance of a builder": stream(name("numpy", "dtype"), b")\x81"),
            "an instance of an instance": stream(INSTANCE, b")\x81"),
            **{
                f"a planted {method}": stream(INSTANCE, b"}", text(method), VALUE, b"sb")
                for method in (
                    "predict",
                    "fit",
                    "get_params",
                    "predict_proba",
                    "__setstate__",
                    "__class__",
                    "__dict__",
                    "__reduce__",
                    "_validate_params",
                )
            },
            "a planted append": stream(INSTANCE, b"}", text("append"), VALUE, b"sb", b"K\x01a"),
            "a planted extend": stream(INSTANCE, b"}b", b"(K\x01e"),
            "a planted add": stream(INSTANCE, b"}b", b"(K\x01\x90"),
            "a state given twice": stream(INSTANCE, b"}", text("C"), b"K\x01sb", b"}b"),
            "a state for a class": stream(ESTIMATOR, b"}", text("fit"), VALUE, b"sb"),
            "a state for a function": stream(VALUE, b"}", text("x"), VALUE, b"sb"),
            "a state for a list": stream(b"]}b"),
            "slots for a class": stream(ESTIMATOR, b"N}", text("fit"), VALUE, b"s\x86b"),
            "slots for an instance": stream(INSTANCE, b"N}", text("fit"), VALUE, b"s\x86b"),
            "a state that is a list": stream(INSTANCE, b"]b"),
            "a state that is text": stream(INSTANCE, text("x"), b"b"),
            "items for an instance": stream(INSTANCE, b"(K\x01e"),
            "an item for an instance": stream(INSTANCE, text("x"), b"K\x01s"),
            "items for a tuple": stream(b")K\x01a"),
            "items for a frozen set": stream(b"(\x91(K\x01\x90"),
            "set members for an instance": stream(INSTANCE, b"(K\x01\x90"),
            "a key without a value": stream(b"}(K\x01u"),
            "an attribute that is no text": stream(INSTANCE, b"}K\x01K\x01sb"),
            "an attribute with a dot": stream(INSTANCE, b"}", text("a.b"), b"K\x01sb"),
            "an attribute that is empty": stream(INSTANCE, b"}", text(""), b"K\x01sb"),
            "two objects": stream(b"K\x01", INSTANCE, b"}b"),
            "no object": stream(),
            "a mark left over": stream(b"(", INSTANCE),
            "more taken than given": stream(b"00", INSTANCE),
            "a memo that is empty": stream(b"h\x07"),
            "a name of numbers": stream(b"K\x01K\x02\x93"),
            "protocol 5 in the middle": stream(b"\x80\x05", INSTANCE),
            "an object that contains itself": stream(b"]\x94h\x00a"),
            "an estimator that contains itself": stream(
                INSTANCE, b"\x94}", text("estimator"), b"h\x00sb"
            ),
            "an unhashable key": stream(b"}]K\x01s"),
            "an instance as a key": stream(b"}", INSTANCE, b"K\x01s"),
            "text that is not UTF-8": stream(b"\x8c\x02\xff\xfe"),
            "a loss with an object": stream(
                name("sklearn._loss._loss", "CyHuberLoss"), INSTANCE, b"\x85R"
            ),
            "bytes of another encoding": stream(
                name("_codecs", "encode"), text("x"), text("rot13"), b"\x86R"
            ),
            "a set of lists": stream(name("builtins", "set"), b"]]a\x85R"),
        }.items()
    }


def opcodes() -> Attacks:
    """Return files with operations that no honest file has."""
    refused = {
        "INST": b"(ios\nsystem\n",
        "OBJ": b"(" + VALUE + b"o",
        "EXT1": b"\x82\x01",
        "EXT2": b"\x83\x01\x00",
        "EXT4": b"\x84\x01\x00\x00\x00",
        "PERSID": b"Px\n",
        "BINPERSID": text("x") + b"Q",
        "NEWOBJ_EX": ESTIMATOR + b")}\x92",
        "NEXT_BUFFER": b"\x97",
        "READONLY_BUFFER": text("x") + b"\x98",
        "DUP": b"K\x012",
        "INT": b"I1\n",
        "LONG": b"L1L\n",
        "FLOAT": b"F1.0\n",
        "UNICODE": b"Vx\n",
        "STRING": b"S'x'\n",
        "BINSTRING": b"T\x01\x00\x00\x00x",
        "SHORT_BINSTRING": b"U\x01x",
        "GET": b"g0\n",
        "PUT": b"K\x01p0\n",
        "255": b"\xff",
        "0": b"\x00",
    }
    return {
        f"the operation {code}": (stream(data, INSTANCE), "opcode_not_allowed")
        for code, data in refused.items()
    }


def _array(shape: bytes, dtype: bytes, content: bytes) -> bytes:
    return (
        name("numpy._core.multiarray", "_reconstruct")
        + name("numpy", "ndarray")
        + b"K\x00\x85C\x01b\x87R(K\x01"
        + shape
        + dtype
        + b"\x89"
        + content
        + b"tb"
    )


def _wrapped(subclass: bytes, shape: bytes, dtype: bytes, order: str = "C") -> bytes:
    return stream(
        name("joblib.numpy_pickle", "NumpyArrayWrapper"),
        b")\x81}(",
        text("subclass") + subclass,
        text("shape") + shape,
        text("order") + text(order),
        text("dtype") + dtype,
        b"ub",
    )


def arrays() -> Attacks:
    """Return files whose arrays are not what they claim."""
    ndarray = name("numpy", "ndarray")
    hidden = (
        name("numpy", "dtype")
        + text("V8")
        + b"\x89\x88\x87R(K\x03"
        + text("|")
        + b"N"
        + text("a")
        + b"\x85}"
        + text("a")
        + DTYPE_O
        + b"K\x00\x86sK\x08K\x01K\x00tb"
    )
    odd = {
        "hidden objects in a data type": stream(hidden),
        "hidden objects in an array": stream(_array(b"K\x01\x85", hidden, b"C\x08" + b"A" * 8)),
        "hidden objects in joblib's array": _wrapped(ndarray, b"K\x01\x85", hidden),
        "fewer objects than the shape says": stream(_array(b"M\xff\xff\x85", DTYPE_O, b"](K\x01e")),
        "raw bytes for objects": stream(_array(b"K\x01\x85", DTYPE_O, b"C\x08" + b"A" * 8)),
        "fewer bytes than the shape says": stream(_array(b"M\xff\xff\x85", DTYPE_F, b"C\x01A")),
        "more bytes than the shape says": stream(
            _array(b"K\x01\x85", DTYPE_F, b"C\x10" + b"A" * 16)
        ),
        "a negative size": stream(_array(b"J\xff\xff\xff\xff\x85", DTYPE_F, b"C\x08" + b"A" * 8)),
        "a shape that overflows": stream(
            _array(b"\x8a\x05\0\0\0\0\x01\x8a\x05\0\0\0\0\x01\x86", DTYPE_F, b"C\x00")
        ),
        "a shape of text": stream(_array(text("x") + b"\x85", DTYPE_F, b"C\x00")),
        "a shape with a truth": stream(_array(b"\x88\x85", DTYPE_F, b"C\x08" + b"A" * 8)),
        "an array of another class": _wrapped(VALUE, b")", DTYPE_F),
        "an array that maps a file": _wrapped(name("numpy", "float64"), b")", DTYPE_F),
        "an array of no data type": _wrapped(ndarray, b")", VALUE),
        "a data type that only looks like one": _wrapped(ndarray, b")", INSTANCE),
        "an array in no order": _wrapped(ndarray, b")", DTYPE_F, "x"),
        "an array without its description": stream(
            name("joblib.numpy_pickle", "NumpyArrayWrapper"), b")\x81"
        ),
        "a data type of a made-up kind": stream(
            name("numpy", "dtype"), text("f8,O8"), b"\x89\x88\x87R"
        ),
        "a huge data type": stream(name("numpy", "dtype"), text("S99999"), b"\x89\x88\x87R"),
        "a number of objects": stream(
            name("numpy._core.multiarray", "scalar"), DTYPE_O, b"C\x08" + b"A" * 8 + b"\x86R"
        ),
        "a number of the wrong length": stream(
            name("numpy._core.multiarray", "scalar"), DTYPE_F, b"C\x01A\x86R"
        ),
        "a buffer of objects": stream(
            name("numpy._core.numeric", "_frombuffer"),
            b"(C\x08" + b"A" * 8,
            DTYPE_O,
            b"K\x01\x85",
            text("C"),
            b"tR",
        ),
    }
    attacks = {attack: (data, "invalid_file") for attack, data in odd.items()}
    attacks["an array without its bytes"] = (
        _wrapped(ndarray, b"M\xff\xff\x85", DTYPE_F),
        "truncated",
    )
    return attacks


def bombs() -> Attacks:
    """Return files that would take the memory or the time of a server."""
    doubled = [b"\x940h" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60)]
    huge = (2**40).to_bytes(8, "little")
    return {
        **{
            f"a bomb ({module.__name__})": (module.compress(bytes(2**25)), "decompression_limit")
            for module in (zlib, gzip, bz2, lzma)
        },
        "a tuple of 2^60 parts as a key": (stream(b"})", *doubled, b"K\x01s"), "limits"),
        "a tuple of 2^50 parts as a key": (
            stream(b"})", *doubled[:50], b"K\x01s"),
            "invalid_file",
        ),
        "colliding keys": (
            stream(
                b"}(",
                *(
                    b"\x8a\x09" + ((2**61 - 1) * i).to_bytes(9, "little") + b"N"
                    for i in range(1, 9)
                ),
                b"u",
            ),
            "invalid_file",
        ),
        "200,000 lists in each other": (stream(b"]" * 200_000, b"a" * 199_999), "limits"),
        "200,000 tuples in each other": (stream(b")", b"\x85" * 200_000), "limits"),
        "many marks": (stream(b"(" * 200_000), "invalid_file"),
        "half a million lists": (stream(b"]0" * 500_000), "limits"),
        "six million operations": (zlib.compress(stream(b"N0" * 3_000_000), 1), "limits"),
        "claimed text": (stream(b"\x8d" + huge), "limits"),
        "claimed bytes": (stream(b"\x8e" + huge), "truncated"),
        "claimed bytearray": (stream(b"\x96" + huge), "truncated"),
        "a claimed frame": (stream(b"\x95" + huge), "truncated"),
        "a far memo": (stream(b"Nr\xff\xff\xff\xff", INSTANCE), "invalid_file"),
        "a long number": (stream(b"\x8b\x00\x08\x00\x00" + b"\x01" * 2048), "limits"),
        "long text": (stream(b"X\x01\x00\x50\x00" + b"x" * 0x500001), "limits"),
        "the same bytes as many arrays": (
            stream(
                b"B\x00\x00\x10\x00" + bytes(2**20) + b"\x940(",
                *[_array(b"J\x00\x00\x02\x00\x85", DTYPE_F, b"h\x00") for _ in range(300)],
                b"l",
            ),
            "limits",
        ),
        "the same list as many sets": (
            stream(
                b"(" + b"K\x01" * 200_000 + b"l\x940(",
                *[name("builtins", "set") + b"h\x00\x85R" for _ in range(2000)],
                b"l",
            ),
            "limits",
        ),
    }


def unsafe_parameters() -> Attacks:
    """Return models that would read files, call things or search for ever while predicting."""
    return {attack: (dump(model), "unsafe_parameter") for attack, model in _unsafe_models().items()}


def _unsafe_models() -> dict[str, Any]:
    text_model = zoo.compositions()["text"][0]

    def changed(**parameters: Any) -> Any:
        model = copy.deepcopy(text_model)
        vars(model[0]).update(parameters)
        return model

    caller = TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)
    caller.fit(X, Y)
    neighbours = copy.deepcopy(zoo.fitted("KNeighborsClassifier")[0])
    neighbours.weights = FunctionTransformer
    vectors = copy.deepcopy(zoo.fitted("SVC")[0])
    vectors.kernel = str
    reducer = copy.deepcopy(zoo.fitted("FeatureAgglomeration")[0])
    reducer.pooling_func = np.log
    return {
        "texts are names of files": changed(input="filename"),
        "texts are files": changed(input="file"),
        "a pattern that takes for ever": changed(token_pattern=r"(\w+)+$"),
        "a tokenizer": changed(tokenizer=str),
        "a preprocessor": changed(preprocessor=str),
        "an analyzer": changed(analyzer=str),
        "a function that is not for elements": FunctionTransformer(np.mean),
        "a class as a function": FunctionTransformer(str),
        "an inverse that is not for elements": FunctionTransformer(np.log, inverse_func=np.max),
        "an argument that is written to": FunctionTransformer(np.log, kw_args={"out": np.zeros(3)}),
        "a function of the target": _with(caller, func=np.sum),
        "weights that are called": neighbours,
        "a kernel that is called": vectors,
        "a function where none is expected": _with(Ridge().fit(X, Y), alpha=np.log),
        "a pooling that is no reduction": reducer,
    }


def _with(model: Any, **attributes: Any) -> Any:
    vars(model).update(attributes)
    return model


@functools.cache
def damaged_files() -> Attacks:
    """Return files that are no whole model."""
    honest = dumped(iris_pipeline)
    packed = dump(iris_pipeline(), compress=3)
    return {
        "nothing": (b"", "invalid_file"),
        "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "invalid_file"),
        "text": (b"model = LogisticRegression()", "invalid_file"),
        "a zip file": (b"PK\x03\x04" + bytes(100), "invalid_file"),
        "joblib's oldest format": (b"ZF0x10            " + zlib.compress(honest), "invalid_file"),
        "a file of numpy": (b"\x93NUMPY\x01\x00v\x00{}", "invalid_file"),
        "protocol 0": (pickle.dumps(1, 0), "invalid_file"),
        "protocol 1": (b"\x80\x01K\x01.", "invalid_file"),
        "an unknown protocol": (b"\x80\x09" + honest[2:], "invalid_file"),
        "half a file": (honest[: len(honest) // 2], "truncated"),
        "a file without its last byte": (honest[:-1], "truncated"),
        "the first two bytes": (honest[:2], "truncated"),
        "half a compressed file": (packed[: len(packed) // 2], "truncated"),
        "a damaged compressed file": (packed[:50] + b"xxxx" + packed[54:], "invalid_file"),
        "a second object": (honest + pickle.dumps(1), "trailing_bytes"),
        "a second model with a command": (
            honest + dump(Call(os.system, "true")),
            "trailing_bytes",
        ),
        "bytes after a compressed file": (packed + b"x", "trailing_bytes"),
        "two compressed files": (gzip.compress(honest) + gzip.compress(honest), "trailing_bytes"),
        "bytes after the object in a compressed file": (
            zlib.compress(honest + b"x"),
            "trailing_bytes",
        ),
        "two layers of compression": (zlib.compress(packed), "invalid_file"),
        "a list": (dump([1, 2, 3]), "not_an_estimator"),
        "a dict": (dump({"model": iris_pipeline()}), "not_an_estimator"),
        "an array": (dump(np.eye(3)), "not_an_estimator"),
        "a class": (dump(LogisticRegression), "not_an_estimator"),
        "a function": (dump(np.log), "not_an_estimator"),
        "a transformer": (dump(FunctionTransformer()), "not_an_estimator"),
    }


@functools.cache
def honest_compressions() -> dict[str, bytes]:
    """Return one model in every way that joblib.dump can write it."""
    model = iris_pipeline()
    files = {
        method: dump(model, compress=(method, 3))
        for method in ("zlib", "gzip", "bz2", "lzma", "xz", "lz4")
    }
    files |= {f"protocol {number}": dump(model, protocol=number) for number in (2, 3, 4, 5)}
    plain = io.BytesIO()
    pickle.dump(model, plain)
    return files | {"pickle.dump": plain.getvalue()}
