"""Codes and labels in the forms that people have, brought to the one form that the kernels read."""

from typing import Any

import numpy as np

from math_hash.codes import as_words, pack
from math_hash.errors import InputError


def code_words(codes: Any, k_bits: int | None, name: str) -> tuple[np.ndarray, int]:
    """Bring codes to words of 64 bits.

    Args:
        codes: uint8 (n, bytes) is packed; any other number type is (n, k) of -1/+1 or 0/1. NumPy or torch.
        k_bits: number of bits; needed only for packed codes whose last byte is not full.
        name: of the argument, for messages.

    Returns:
        uint64 (n, words) and the number of bits.

    Raises:
        InputError: another shape, other values, no rows, or `k_bits` that the codes do not hold.
    """
    codes = _as_numpy(codes)
    if codes.ndim != 2 or codes.shape[1] == 0:
        raise InputError(f"{name}: shape {codes.shape}; expected a matrix, a row a code")
    if len(codes) == 0:
        raise InputError(f"{name}: has no rows")
    if codes.dtype != np.uint8:
        bits = codes > 0
        if not ((bits & (codes == 1)) | (~bits & ((codes == -1) | (codes == 0)))).all():
            raise InputError(f"{name}: holds values other than -1/+1 or 0/1; take the sign first")
        k_bits = k_bits or codes.shape[1]
        if k_bits != codes.shape[1]:
            raise InputError(f"{name}: has {codes.shape[1]} columns, but k_bits is {k_bits}")
        return as_words(pack(bits)), k_bits
    k_bits = k_bits or 8 * codes.shape[1]
    if -(-k_bits // 8) != codes.shape[1]:
        raise InputError(f"{name}: {codes.shape[1]} bytes a row do not hold k_bits = {k_bits}")
    if k_bits % 8 and (codes[:, -1] & (0xFF >> k_bits % 8)).any():
        raise InputError(f"{name}: bits after the first {k_bits} are set; expected zero padding, or another k_bits")
    return as_words(codes), k_bits


def label_words(labels: Any, rows: int, name: str) -> tuple[np.ndarray, int]:
    """Bring labels, 0/1 (rows, c), NumPy or torch, to words of 64 bits.

    Returns:
        uint64 (rows, words) and c.

    Raises:
        InputError: another shape or length, or other values.
    """
    labels = _as_numpy(labels)
    if labels.ndim != 2 or len(labels) != rows:
        raise InputError(f"{name}: shape {labels.shape}; expected a matrix with {rows} rows, as many as codes")
    if not ((labels == 0) | (labels == 1)).all():
        raise InputError(f"{name}: holds values other than 0 and 1")
    return as_words(pack(labels)), labels.shape[1]


def _as_numpy(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
