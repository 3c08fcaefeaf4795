"""Opening an index by its URI, whichever engine holds it."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

from math_hash.errors import InputError
from math_hash.hamming.codes import MOST_BITS
from math_hash.retrieval.index import Index


def open_index(
    uri: str | os.PathLike[str],
    k_bits: int | None = None,
    model: str = "",
    create: bool = True,
    image_root: str | os.PathLike[str] | None = None,
) -> Index:
    """Open an index, or create one.

    Args:
        uri: a folder, for the embedded engine (`codes.index`; `codes.index?engine=ivf&nlist=4096&nprobe=16` for
            approximate search); `milvus://host:19530/collection`; or `postgresql://user@host/database?table=codes`.
        k_bits: length of the codes; needed if the index is new.
        model: fingerprint of the model that makes the codes; a new index keeps it.
        create: create a new index if none exists.
        image_root: the folder that the image paths of its metadata start from, for thumbnails in a notebook.

    Raises:
        InputError: there is none and `create` is false or `k_bits` is None; it holds codes of another length or
            model; it is damaged; an option is unknown; or the engine cannot be reached or is not installed.

    Warns:
        UserWarning: rows of it are damaged and left out, or `math-hash index` has put in only a part of a folder of
            codes so far.

    >>> import tempfile, numpy
    >>> with tempfile.TemporaryDirectory() as folder, open_index(f"{folder}/codes.index", k_bits=16) as index:
    ...     index.add(["near", "far"], numpy.array([[0, 1], [255, 255]], numpy.uint8))
    ...     [neighbors] = index.search(numpy.array([[0, 0]], numpy.uint8), top_k=2)
    >>> neighbors.ids.tolist(), neighbors.distances.tolist()
    (['near', 'far'], [1, 16])
    """
    uri = os.fspath(uri)
    if k_bits is not None and not 1 <= k_bits <= MOST_BITS:
        raise InputError(f"{uri}: k_bits {k_bits}; expected 1 to {MOST_BITS:,}")
    index = _engine(uri)(uri, k_bits, model, create)
    index.image_root = None if image_root is None else Path(image_root)
    try:
        index.require_model(model, k_bits or index.k_bits)
    except InputError:
        index.close()
        raise
    if source := index.unfinished:
        warnings.warn(
            f"{index.uri}: holds only a part of {source}; go on with `math-hash index {source} --output {index.uri}`",
            stacklevel=2,
        )
    return index


def _engine(uri: str) -> Callable[[str, int | None, str, bool], Index]:
    """What opens a URI: an engine's class. An engine is imported only when it is asked for."""
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if scheme == "":
        from math_hash.retrieval.engines.embedded.index import EmbeddedIndex

        return EmbeddedIndex
    if scheme == "milvus":
        from math_hash.retrieval.engines.milvus import MilvusIndex

        return MilvusIndex
    if scheme in ("postgresql", "postgres"):
        from math_hash.retrieval.engines.postgresql import PostgreSQLIndex

        return PostgreSQLIndex
    raise InputError(f"{uri}: no engine for {scheme}://; expected a folder, milvus:// or postgresql://")
