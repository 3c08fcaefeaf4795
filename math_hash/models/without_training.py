"""Models from an encoder and pictures alone: no labels, no texts, no training."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from math_hash.encoders import Encoder
from math_hash.errors import InputError
from math_hash.models.caption_words import caption_words
from math_hash.models.model import HashModel

# --bits-from -> a method of `methods/training_free.py`, and its options
BITS: dict[str, tuple[str, dict[str, int]]] = {
    "ITQ": ("ITQ", {"iterations": 50}),
    "PCA-rotation": ("ITQ", {"iterations": 0}),
    "sign": ("SignBits", {}),
}
_LONGEST_TEXT = 77  # tokens, as CLIP has them


def model_without_training(
    encoder: Encoder,
    bits_from: str,
    k_bits: int,
    batches: Iterable[Tensor],
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> HashModel:
    """A model whose head is fitted to the encoder's vectors of some pictures, and of `caption_words`.

    Both modalities are centered: images by the mean of these pictures, texts by that of the words, since pictures come
    without texts.

    Args:
        encoder: which has learned images and texts together, such as a pretrained CLIP.
        bits_from: one of `BITS`.
        k_bits: length of the codes, at most the encoder's width.
        batches: the pictures, each batch as `HashModel.encode_image` takes it; one picture at least.
        device: where the pictures are encoded; the model is returned on the CPU.
        seed: of the rotation.

    Raises:
        InputError: there is no picture, or the encoder is too narrow for so many bits.
    """
    method, options = BITS[bits_from]
    model = HashModel(encoder, method, k_bits, options, min(_LONGEST_TEXT, encoder.context_length)).eval().to(device)
    image = [model.encode_image(batch, output="vector") for batch in batches]
    if not image:
        raise InputError("there is no picture that can be read; expected one at least, better a hundred")
    text = model.encode_text(caption_words(), output="vector")
    model.head.fit(torch.from_numpy(np.concatenate(image)), torch.from_numpy(text), seed)
    return model.to("cpu")
