"""Checks of what makes columns: their numbers become indexes, or the size of what is made."""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from sklearn.cluster import FeatureAgglomeration
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.kernel_approximation import PolynomialCountSketch
from sklearn.preprocessing import (
    FunctionTransformer,
    MultiLabelBinarizer,
    OneHotEncoder,
    PolynomialFeatures,
    SplineTransformer,
)

from webapp.ml.graph import MAX_HASHED_FEATURES
from webapp.ml.loading.arrays import PLAIN, is_array, is_count
from webapp.ml.loading.refusals import OUT, demand

MAX_COLUMNS: Final = 1_000_000
# Of products and the like, for which no array in the file stands.
MAX_MADE_COLUMNS: Final = 100_000
_MAX_DEGREE: Final = 100


def _check_vocabulary(vectorizer: Any) -> None:
    _check_numbering(getattr(vectorizer, "vocabulary_", None))


def _check_label_sets(binarizer: Any) -> None:
    _check_numbering(getattr(binarizer, "_cached_dict", None))


def _check_numbering(words: Any) -> None:
    """Demand that words are numbered without a gap: the numbers become columns, unchecked."""
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
    demand(sum(widths) <= MAX_COLUMNS, f"more than {MAX_COLUMNS} columns", "limits")
    nothing = [None] * len(widths)
    rare = encoder._infrequent_indices if encoder._infrequent_enabled else nothing
    mappings = encoder._default_to_infrequent_mappings if encoder._infrequent_enabled else nothing
    together = [(a is None) == (b is None) for a, b in zip(rare, mappings, strict=True)]
    demand(all(together), "odd rare categories")
    dropped = encoder._drop_idx_after_grouping
    for categories, mapping, drop, width in zip(
        encoder.categories_, mappings, nothing if dropped is None else dropped, widths, strict=True
    ):
        demand(_count_codes(categories, mapping, drop) <= width, "a category out of range", OUT)


def _count_codes(categories: Any, mapping: Any, dropped: Any) -> int:
    """Tell how many columns the categories of one feature lead to."""
    demand(isinstance(categories, np.ndarray) and categories.ndim == 1, "odd categories")
    # Numbers are searched for by halves, and what is not in order is found behind the end.
    numbers = [each for each in categories.tolist() if type(each) in (int, float) and each == each]
    demand(numbers == sorted(numbers), "categories that are not in order", OUT)
    codes = len(categories)
    if mapping is not None:
        demand(is_array(mapping, codes, kinds="iu") and mapping.min() >= 0, "odd rare categories")
        codes = int(mapping.max()) + 1
    if dropped is not None:
        demand(is_count(dropped, codes - 1), "a dropped category out of range", OUT)
        codes -= 1
    return codes


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
    highest = transformer._max_degree
    demand(is_count(highest, _MAX_DEGREE), "an odd degree", "limits")
    most = math.comb(width + highest, highest)
    if transformer.interaction_only:
        most = sum(math.comb(width, size) for size in range(highest + 1))
    demand(most <= MAX_MADE_COLUMNS, f"more than {MAX_MADE_COLUMNS} polynomials", "limits")
    counted = (transformer._n_out_full, transformer.n_output_features_)
    demand(all(is_count(count, most) for count in counted), "other polynomials than counted", OUT)


def _check_sketch(transformer: Any) -> None:
    hashes = getattr(transformer, "indexHash_", None)
    if hashes is not None:
        demand(transformer.degree == len(hashes), "other degrees than hashes", OUT)


def _check_splines(transformer: Any) -> None:
    splines = getattr(transformer, "bsplines_", None)
    if splines is None:
        return
    # The last of each feature can be left out.
    each = splines[0].c.shape[1] - 1 + bool(transformer.include_bias)
    count = transformer.n_features_out_
    demand(count == each * transformer.n_features_in_, "other splines than counted", OUT)
    demand(count <= MAX_COLUMNS, f"more than {MAX_COLUMNS} columns", "limits")


def _check_agglomeration(transformer: Any) -> None:
    labels = getattr(transformer, "labels_", None)
    if labels is not None:
        width = transformer.n_features_in_
        demand(is_array(labels, width, kinds="iu"), "odd groups of features", OUT)
        inside = bool(((labels >= 0) & (labels < width)).all())
        demand(inside, "a group of features out of range", OUT)


COLUMN_CHECKS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], None]], ...]] = (
    ((CountVectorizer, DictVectorizer), _check_vocabulary),
    ((FeatureHasher, HashingVectorizer), _check_hasher),
    (OneHotEncoder, _check_one_hot),
    (FunctionTransformer, _check_function),
    (PolynomialFeatures, _check_polynomials),
    (PolynomialCountSketch, _check_sketch),
    (SplineTransformer, _check_splines),
    (MultiLabelBinarizer, _check_label_sets),
    (FeatureAgglomeration, _check_agglomeration),
)
