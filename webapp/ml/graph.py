"""Walks the objects that an estimator is made of, and makes their settings harmless."""

from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

from webapp.ml.loading.refusals import rejected

_LEAVES: Final = (type(None), bool, int, float, str, bytes, type, FunctionType, BuiltinFunctionType)
# A pattern from the file could take exponential time; these take linear time.
_TOKEN_PATTERNS: Final = {
    None,
    r"(?u)\b\w\w+\b",
    r"(?u)\b\w+\b",
    r"\b\w\w+\b",
    r"\b\w+\b",
    r"\w+",
    r"\S+",
    r"[^\s]+",
    r"[a-zA-Z]+",
    r"[A-Za-z]+",
    r"[a-z]+",
}
# All up to the length of a text would be as many as its square.
_MAX_NGRAM: Final = 100
MAX_HASHED_FEATURES: Final = 2**22


def walk(root: Any) -> Iterator[Any]:
    """Yield every object with attributes that the root holds, itself included, each once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        children: Iterable[Any] = ()
        if isinstance(item, dict):
            children = item.values()
        elif isinstance(item, (list, tuple, set, frozenset)):
            children = item
        elif isinstance(item, np.ndarray):
            children = item.ravel().tolist() if item.dtype == object else ()
        elif hasattr(item, "__dict__"):
            yield item
            children = vars(item).values()
        waiting.extend(child for child in children if not isinstance(child, _LEAVES))


def neutralise(root: Any) -> None:
    """Force one thread, no output and no cache folder in the whole graph.

    Raises
    ------
    ModelRejectedError : a text step would open files, or search with a pattern of its own
    """
    harmless = {"n_jobs": 1, "verbose": 0, "memory": None, "_n_threads": 1}
    for item in walk(root):
        attributes = vars(item)
        attributes.update({name: value for name, value in harmless.items() if name in attributes})
        if isinstance(item, (CountVectorizer, HashingVectorizer)):
            _check_vectorizer(item)


def _check_vectorizer(vectorizer: Any) -> None:
    if vectorizer.input != "content":
        raise _unsafe("input", "must be 'content': text is sent with the request")
    if vectorizer.analyzer not in ("word", "char", "char_wb"):
        raise _unsafe("analyzer", "must be 'word', 'char' or 'char_wb'")
    if vectorizer.token_pattern not in _TOKEN_PATTERNS:
        raise _unsafe("token_pattern", r"must be a simple one, such as '(?u)\b\w\w+\b' or '\w+'")
    if vectorizer.tokenizer is not None or vectorizer.preprocessor is not None:
        raise _unsafe("tokenizer", "and preprocessor must be None")
    lengths = vectorizer.ngram_range
    if len(lengths) != 2 or not all(0 < length <= _MAX_NGRAM for length in lengths):
        raise _unsafe("ngram_range", f"must be two numbers up to {_MAX_NGRAM}")
    hashed = getattr(vectorizer, "n_features", 0)
    if type(hashed) is not int or hashed > MAX_HASHED_FEATURES:
        raise _unsafe("n_features", f"must be at most {MAX_HASHED_FEATURES}")


def _unsafe(parameter: str, demand: str) -> Exception:
    return rejected(
        "unsafe_parameter",
        f"the text step's parameter {parameter} {demand}",
        parameter=parameter,
    )
