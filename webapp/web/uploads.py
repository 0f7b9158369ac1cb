"""Uploads go to a private file of the store while they arrive, never into memory."""

from dataclasses import dataclass
from typing import IO, Any, cast

from flask import Request, current_app
from werkzeug.exceptions import RequestEntityTooLarge

from webapp.errors import InvalidInputError, UnsupportedMediaTypeError
from webapp.ml.store import Incoming
from webapp.parts import Parts

MULTIPART_OVERHEAD_BYTES = 64 * 1024
MAX_SAMPLE_BYTES = 2**20


class StreamingRequest(Request):
    """A request whose uploaded files are received by the model store."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        parts = cast(Parts, current_app.extensions["pellucid"])
        incoming = parts.store.receive()
        self.received.append(incoming)
        return cast(IO[bytes], incoming)

    @property
    def received(self) -> list[Incoming]:
        """The files received so far, to be kept or discarded."""
        files: list[Incoming] = self.__dict__.setdefault("_received", [])
        return files


@dataclass(frozen=True)
class Upload:
    """The parts of an upload."""

    file: Incoming
    sample: bytes
    fields: dict[str, str]


def read_upload(request: StreamingRequest, max_bytes: int) -> Upload:
    """Receive a multipart body with a model file, and perhaps a sample of its input.

    Raises
    ------
    UnsupportedMediaTypeError : the body is not multipart/form-data
    RequestEntityTooLarge : it is larger than ``max_bytes``
    InvalidInputError : no file in it, several, unknown fields, or too large or empty a sample
    """
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaTypeError("the body must be multipart/form-data with a part `file`")
    request.max_content_length = max_bytes + MULTIPART_OVERHEAD_BYTES
    # Werkzeug holds it against what it reads at once, too: 64 KiB of the file, and what is left of
    # the 64 KiB before if they ended near a line break, where a boundary could begin.
    request.max_form_memory_size = 2 * MULTIPART_OVERHEAD_BYTES
    request.max_form_parts = 8
    fields: dict[str, Any] = request.form.to_dict()  # this reads the whole body
    unknown = {*fields} - {"file", "name", "description"} or {*request.files} - {"file", "sample"}
    if None in unknown:
        raise InvalidInputError("a part has no name")
    if unknown:
        raise InvalidInputError(f"unknown field {sorted(unknown)[0][:100]}")
    if len(request.received) != len(request.files) or "file" not in request.files:
        raise InvalidInputError("the part `file` must be one file", {"field": "file"})
    incoming = cast(Incoming, request.files["file"].stream)
    if incoming.bytes > max_bytes:
        raise RequestEntityTooLarge(
            f"the file is larger than the {max_bytes} bytes that are accepted"
        )
    if "name" not in fields:
        raise InvalidInputError("the field `name` is missing", {"field": "name"})
    sample = (
        _read_sample(cast(Incoming, request.files["sample"].stream))
        if "sample" in (request.files)
        else b""
    )
    return Upload(incoming, sample, fields)


def _read_sample(file: Incoming) -> bytes:
    if not file.bytes:
        raise InvalidInputError(
            "the sample does not fit the model: it must have at least one row",
            {"field": "sample", "row": None, "column": None, "expected": "at least one row"},
        )
    if file.bytes > MAX_SAMPLE_BYTES:
        raise InvalidInputError(
            f"the sample must be at most {MAX_SAMPLE_BYTES} bytes", {"field": "sample"}
        )
    return file.path.read_bytes()
