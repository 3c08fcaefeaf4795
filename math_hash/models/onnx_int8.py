"""ONNX models with weights in int8, a quarter of the size (onnxruntime's dynamic quantization)."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from math_hash.errors import InputError, import_extra
from math_hash.files import atomic_folder, read_json, sums_of, write_text
from math_hash.models.code_model import CONFIG
from math_hash.models.model import HashModel
from math_hash.models.onnx import FILES, OnnxModel

_QUANTIZED = ["MatMul", "Gemm", "Gather"]  # linear maps and embeddings; the filters of convolutions stay in float32


def quantize_onnx(
    model: HashModel, exported: str | Path, folder: str | Path, images: Tensor, texts: Sequence[str]
) -> dict[str, float]:
    """Write an exported model once more, with weights in int8, and compare its bits with PyTorch's.

    Each output channel of a weight has a scale of its own; that of the activations is found for each batch. The folder
    opens with `load_model`, and its `config.json` records the agreement.

    Args:
        model: the model that was exported, in float32.
        exported: the folder that `export_onnx` wrote.
        folder: the folder to write.
        images: real pictures as `encode_image` takes them, float32 (n, 3, resolution, resolution); may be empty.
        texts: real texts; may be empty.

    Returns:
        The share of equal bits, in [0, 1], of "image" and "text", where there are any.

    Raises:
        InputError: the folder already exists, or onnxruntime is not installed.
    """
    quantization = import_extra("onnxruntime.quantization", "onnx", folder)
    exported, folder = Path(exported), Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: already exists; remove it, or name another folder")
    with atomic_folder(folder) as building:
        for name in FILES.values():
            quantization.quant_pre_process(
                exported / name, building / name, skip_optimization=True, skip_symbolic_shape=True
            )
            quantization.quantize_dynamic(
                building / name, building / name, _QUANTIZED, per_channel=True,
                weight_type=quantization.QuantType.QInt8,
            )  # fmt: skip
        config = read_json(exported / CONFIG) | {"precision": "int8", "sha256": sums_of(building)}
        del config["largest_difference"]
        write_text(building / CONFIG, json.dumps(config, indent=2) + "\n")
        quantized = OnnxModel(building)
        agreement = {}
        if len(images):
            wanted = model.encode_image(images, output="bits")
            agreement["image"] = float((wanted == quantized.encode_image(images, output="bits")).mean())
        if len(texts):
            wanted = model.encode_text(texts, output="bits")
            agreement["text"] = float((wanted == quantized.encode_text(texts, output="bits")).mean())
        write_text(building / CONFIG, json.dumps(config | {"agreement": agreement}, indent=2) + "\n")
    return agreement
