"""Checks of what makes columns: their numbers become indexes, or the size of what is made."""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures

from webapp.ml.graph import MAX_HASHED_FEATURES
from webapp.ml.loading.arrays import PLAIN, is_array, is_count
from webapp.ml.loading.refusals import OUT, demand

MAX_POLYNOMIALS: Final = 100_000
_MAX_DEGREE: Final = 100


def _check_vocabulary(vectorizer: Any) -> None:
    """Demand that words are numbered without a gap: the numbers become columns, unchecked."""
    words = getattr(vectorizer, "vocabulary_", None)
    if words is None:
        return
    demand(isinstance(words, dict), "an odd vocabulary")
    numbers = list(words.values())
    whole = all(isinstance(number, (int, np.integer)) for number in numbers)
    demand(whole, "an odd vocabulary")
    demand(sorted(numbers) == list(range(len(words))), "a word's number out of range", OUT)


def _check_hasher(hasher: Any) -> None:
    count = hasher.n_features
    demand(is_count(count, MAX_HASHED_FEATURES), "too many hashed columns", "limits")
    demand(count > 0, "no hashed columns", OUT)  # compiled code divides by it


def _check_one_hot(encoder: Any) -> None:
    """Demand that its columns are those of its categories: their sums become indexes."""
    if not hasattr(encoder, "categories_"):
        return
    widths = encoder._n_features_outs
    demand(widths == encoder._compute_n_features_outs(), "odd columns of categories", OUT)
    mappings = getattr(encoder, "_default_to_infrequent_mappings", None) or ()
    for mapping, width in zip(mappings, widths, strict=bool(mappings)):
        if mapping is not None:
            demand(is_array(mapping, None, kinds="iu"), "odd rare categories")
            # One category may be dropped, and is then not counted.
            inside = bool(((mapping >= 0) & (mapping <= width)).all())
            demand(inside, "a rare category out of range", OUT)


def _check_function(transformer: Any) -> None:
    for arguments in (transformer.kw_args, transformer.inv_kw_args):
        # "out" would be written to.
        plain = arguments is None or all(
            type(value) in PLAIN and key != "out" for key, value in arguments.items()
        )
        demand(plain, "arguments of a function that are no plain values", "unsafe_parameter")


def _check_polynomials(transformer: Any) -> None:
    width = getattr(transformer, "n_features_in_", None)
    if width is None:
        return
    degree = transformer.degree
    highest = degree[1] if isinstance(degree, tuple) and len(degree) == 2 else degree
    demand(type(highest) is int and 0 <= highest <= _MAX_DEGREE, "an odd degree")
    most = math.comb(width + highest, highest)
    if transformer.interaction_only:
        most = sum(math.comb(width, size) for size in range(highest + 1))
    demand(most <= MAX_POLYNOMIALS, f"more than {MAX_POLYNOMIALS} polynomials", "limits")


COLUMN_CHECKS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], None]], ...]] = (
    ((CountVectorizer, DictVectorizer), _check_vocabulary),
    ((FeatureHasher, HashingVectorizer), _check_hasher),
    (OneHotEncoder, _check_one_hot),
    (FunctionTransformer, _check_function),
    (PolynomialFeatures, _check_polynomials),
)
