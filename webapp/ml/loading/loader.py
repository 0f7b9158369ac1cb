"""Makes an estimator from the bytes of a file, or refuses them with a reason."""

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sklearn.base import BaseEstimator

from webapp.errors import ModelRejectedError
from webapp.ml.graph import neutralise
from webapp.ml.loading.checks import check_parts
from webapp.ml.loading.policy import load_policy
from webapp.ml.loading.refusals import invalid, rejected
from webapp.ml.loading.unpickler import FencedUnpickler, check_sklearn_version

T = TypeVar("T")
_MAX_BYTES: Final = 256 * 2**20
_LZMA_MEMORY_BYTES: Final = 128 * 2**20
_VERSION: Final = re.compile(rb"_sklearn_version.{1,8}?(\d{1,3}\.\d{1,3}\.[\w.]{1,8})", re.DOTALL)
# magic → decompressor; each stops at a length and says whether its stream ended.
_COMPRESSIONS: Final[tuple[tuple[bytes, Any], ...]] = (
    (b"x", zlib.decompressobj),
    (b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31)),
    (b"BZ", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)),
    (b"\x5d\x00", lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY_BYTES)),
)


def load_estimator(data: bytes, trusted: tuple[str, ...] = ()) -> BaseEstimator:
    """Load a fitted estimator from the bytes of a joblib file.

    Raises
    ------
    ModelRejectedError : the bytes are no such file, or hold what the policy does not allow
    """
    return load_with_version(decompress(data), trusted)[0]


def load_with_version(
    stream: bytes, trusted: tuple[str, ...] = ()
) -> tuple[BaseEstimator, str | None]:
    """Load an estimator from a joblib stream; tell the scikit-learn version it was saved with."""
    if stream[:1] != b"\x80" or stream[1:2] not in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise invalid("it does not begin like one")
    file = io.BytesIO(stream)
    unpickler = FencedUnpickler(file, load_policy(trusted))
    loaded = guard(unpickler.load, stream)
    if file.read(1):
        raise _trailing()
    guard(lambda: _check(loaded), stream)
    return loaded, unpickler.sklearn_version


def _check(loaded: Any) -> None:
    if not isinstance(loaded, BaseEstimator) or not hasattr(loaded, "predict"):
        raise rejected(
            "not_an_estimator",
            f"the file holds a {type(loaded).__name__}, not a scikit-learn estimator with predict;"
            " save the fitted model itself",
        )
    check_parts(loaded)
    neutralise(loaded)


def decompress(data: bytes) -> bytes:
    """Take off the one layer of compression that joblib may have put on."""
    for magic, make in _COMPRESSIONS:
        if data.startswith(magic):
            return _inflate(make(), data)
    return data


def _inflate(machine: Any, data: bytes) -> bytes:
    cap = max(8 * 2**20, min(_MAX_BYTES, 200 * len(data)))
    try:
        stream: bytes = machine.decompress(data, cap + 1)
    except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        raise invalid("it is compressed, and damaged") from error
    if len(stream) > cap:
        raise rejected(
            "too_large",
            f"the file expands to more than {cap // 2**20} MiB; save it with less compression"
            " or as a smaller model",
            limit_bytes=cap,
        )
    if not machine.eof:
        raise _truncated()
    if machine.unused_data:
        raise _trailing()
    return stream


def guard(step: Callable[[], T], stream: bytes) -> T:
    """Run a step over what the file made; whatever that makes it raise is a refusal."""
    try:
        return step()
    except ModelRejectedError as error:
        if error.details.get("reason") == "global_not_allowed":
            _blame_version(stream)
        raise
    except (MemoryError, RecursionError) as error:
        raise rejected("limits", "the model needs more memory than it may take") from error
    except EOFError as error:
        raise _truncated() from error
    # The bytes are somebody else's: no exception that they cause is a fault of ours.
    except Exception as error:
        # A whole stream ends with STOP; what the reader says of a cut one depends on the place.
        whole = stream.endswith(b".")
        raise (invalid("it is damaged") if whole else _truncated()) from error


def _blame_version(stream: bytes) -> None:
    """Say so when a name is unknown only because another scikit-learn wrote the file."""
    found = _VERSION.search(stream)
    if found:
        check_sklearn_version(found[1].decode("ascii", "replace"))


def _truncated() -> ModelRejectedError:
    return rejected("truncated", "the file ends too early; save and upload it again")


def _trailing() -> ModelRejectedError:
    return rejected("trailing_bytes", "the file goes on after the model; save it again, alone")
