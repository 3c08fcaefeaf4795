"""Quantizers of an encoder's vectors, as entries of a comparison.

All of them store something of the unit vectors and are asked with the query's float vector. Product quantizers and
RaBitQ code a row's difference from the mean vector of its modality, which shifts all scores of a query by one number.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from math_hash.errors import InputError, import_extra
from math_hash.evaluation.compare import Entry, bits_entry
from math_hash.hamming.int8 import as_int8

Vectors = Mapping[str, np.ndarray]  # modality -> float (rows, d)
_LEAST_TO_TRAIN = 256  # centroids of a product quantizer's byte


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, d), any real type, scaled to length 1, float32.

    Example:
        >>> unit(np.array([[3.0, 4.0]])).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def centered(vectors: Vectors, train: np.ndarray) -> dict[str, np.ndarray]:
    """Unit vectors minus the mean unit vector of the training rows, for each modality.

    Example:
        >>> centered({"image": np.eye(2)}, np.array([0, 1]))["image"].tolist()
        [[0.5, -0.5], [-0.5, 0.5]]
    """
    return {modality: unit(values) - unit(values[train]).mean(axis=0) for modality, values in vectors.items()}


def float_entry(name: str, vectors: Vectors, fitted: str = "nothing") -> Entry:
    """float32 vectors, by cosine: the reference of the quantizers."""
    units = {modality: unit(values) for modality, values in vectors.items()}
    return Entry(name, units, units, lambda queries, rows: queries @ rows.T, fitted=fitted)


def vector_entries(vectors: Vectors, train: np.ndarray) -> Iterator[Entry]:
    """What needs no package: float32, int8 with a scale per row, sign bits as they are and centered.

    Args:
        vectors: modality -> float (rows, d), in the space that both modalities share.
        train: numbers of the rows that means are taken over.
    """
    yield float_entry("float32", vectors)
    units = {modality: unit(values) for modality, values in vectors.items()}
    int8 = {modality: as_int8(values) for modality, values in units.items()}
    yield Entry("int8", units, int8, lambda queries, rows: queries @ unit(rows).T)
    yield bits_entry("sign bits", units)
    yield bits_entry("centered sign bits", centered(vectors, train), "means")


def faiss_entries(vectors: Vectors, train: np.ndarray, num_bytes: int = 8) -> Iterator[Entry]:
    """FAISS's quantizers: RaBitQ at one bit per dimension, PQ and OPQ at `num_bytes`.

    RaBitQ (Gao and Long, SIGMOD 2024) follows a random rotation and keeps two floats per row beside the bits. PQ
    (Jegou et al., TPAMI 2011) and OPQ (Ge et al., TPAMI 2014) are trained on the images and the texts of the training
    rows together, and score the query's float vector with the reconstructed row.

    Args:
        vectors, train: as for `vector_entries`.

    Raises:
        InputError: FAISS is not installed, or there are too few training rows for a codebook.
    """
    faiss = import_extra("faiss", "search", "RaBitQ, PQ and OPQ")
    if 2 * len(train) < _LEAST_TO_TRAIN:
        raise InputError(f"RaBitQ, PQ and OPQ: {len(train)} training rows; expected at least {_LEAST_TO_TRAIN // 2}")
    padding = -next(iter(vectors.values())).shape[1] % num_bytes
    units = {modality: np.pad(unit(values), ((0, 0), (0, padding))) for modality, values in vectors.items()}
    residuals = centered(units, train)
    together = np.concatenate([values[train] for values in residuals.values()])
    d = together.shape[1]
    opq, quantizer = faiss.OPQMatrix(d, num_bytes), _product_quantizer(faiss, d, num_bytes)
    opq.pq = quantizer.pq
    for name, rotation, coder, fitted in (
        ("RaBitQ", faiss.RandomRotationMatrix(d, d), faiss.IndexRaBitQ(d, faiss.METRIC_INNER_PRODUCT), "means"),
        ("PQ", None, _product_quantizer(faiss, d, num_bytes), "means, codebooks"),
        ("OPQ", opq, quantizer, "means, rotation, codebooks"),
    ):
        if rotation:
            rotation.train(together)
        rotate = rotation.apply if rotation else np.asarray
        coder.train(rotate(together))
        query = {modality: rotate(values) for modality, values in units.items()}
        stored = {modality: coder.sa_encode(rotate(values)) for modality, values in residuals.items()}
        yield Entry(name, query, stored, partial(_faiss_scores, faiss, coder), fitted=fitted)


def _product_quantizer(faiss: Any, d: int, num_bytes: int) -> Any:
    coder = faiss.IndexPQ(d, num_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    coder.pq.cp.min_points_per_centroid = 1  # which only silences a warning for each codebook
    return coder


def _faiss_scores(faiss: Any, coder: Any, queries: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The estimated inner products of float queries with coded rows."""
    coder.reset()
    coder.add_sa_codes(codes)
    if isinstance(coder, faiss.IndexRaBitQ):
        coder.qb = 0  # the query stays float
    scores, rows = coder.search(np.ascontiguousarray(queries), len(codes))
    ordered = np.empty_like(scores)
    np.put_along_axis(ordered, rows, scores, axis=1)
    return ordered
