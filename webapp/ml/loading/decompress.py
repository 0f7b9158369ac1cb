"""Takes off the one layer of compression that joblib may have put on a file."""

import bz2
import lzma
import zlib
from typing import Any, Final

from lz4.frame import LZ4FrameDecompressor

from webapp.ml.loading.refusals import invalid, rejected, trailing, truncated

MAX_BYTES: Final = 256 * 2**20
MAX_RATIO: Final = 200
# A tiny file of a tiny model may well have long runs of zeros.
ALWAYS_BYTES: Final = 8 * 2**20
LZMA_MEMORY_BYTES: Final = 128 * 2**20
# magic → decompressor; each stops at a length, and says whether its stream ended.
_FORMATS: Final[tuple[tuple[bytes, Any], ...]] = (
    (b"x", zlib.decompressobj),
    (b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31)),
    (b"BZ", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, LZMA_MEMORY_BYTES)),
    (b"\x5d\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, LZMA_MEMORY_BYTES)),
    (b"\x04\x22\x4d\x18", LZ4FrameDecompressor),
)


def decompress(data: bytes) -> bytes:
    """Return the bytes of the pickle stream, of at most so many bytes.

    Raises
    ------
    ModelRejectedError : damaged, cut, followed by something, or more than the cap
    """
    for magic, make in _FORMATS:
        if data.startswith(magic):
            return _inflate(make(), data)
    return data


def _inflate(machine: Any, data: bytes) -> bytes:
    cap = max(ALWAYS_BYTES, min(MAX_BYTES, MAX_RATIO * len(data)))
    try:
        stream: bytes = machine.decompress(data, cap + 1)
    # lz4 says RuntimeError for whatever it dislikes; lzma also when it would need more memory.
    except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError, RuntimeError) as error:
        raise invalid("it is compressed, and damaged") from error
    if len(stream) > cap:
        raise rejected(
            "decompression_limit",
            f"the file expands to more than {cap // 2**20} MiB; save it with less compression"
            " or as a smaller model",
            limit_bytes=cap,
        )
    if not machine.eof:
        raise truncated()
    if machine.unused_data:
        raise trailing()
    return stream
