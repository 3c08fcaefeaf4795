"""Fingerprints of models, as codes carry them; this file needs no PyTorch."""


def kept_fingerprint(fingerprint: str, bits: int | None) -> str:
    """The fingerprint of a model cut to its `bits` most significant bits; None: all of them.

    >>> kept_fingerprint("abc", 16)
    'abc:16'
    """
    return fingerprint if bits is None else f"{fingerprint.partition(':')[0]}:{bits}"
