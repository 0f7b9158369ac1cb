"""Turns what an estimator returns into JSON values."""

from typing import Any

import numpy as np


def to_json(values: Any) -> Any:
    """Return nested lists of JSON values; what is not finite becomes None.

    Labels that JSON does not have (dates, bytes, other objects) become text.
    """
    if isinstance(values, (list, tuple)):
        return [to_json(value) for value in values]
    array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    kind = array.dtype.kind
    if kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            holed = array.astype(object)
            holed[~finite] = None
            return holed.tolist()
        return array.astype(float, copy=False).tolist()
    if kind in "biu":
        return array.tolist()
    if kind in "mM":
        return array.astype(str).tolist()
    return _each(array.tolist())


def clean_text(text: str) -> str:
    """Return text that UTF-8 and every database can hold."""
    return text.encode("utf-8", "replace").decode("utf-8", "replace").replace("\x00", "\ufffd")


def _each(value: Any) -> Any:
    if isinstance(value, list):
        return [_each(item) for item in value]
    if isinstance(value, np.generic):
        return to_json(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, bytes):
        return clean_text(value.decode("utf-8", "replace"))
    return clean_text(str(value))
