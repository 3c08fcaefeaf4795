"""Trained models as ONNX files: writing them, compared with PyTorch, and encoding with them (onnxruntime).

A folder holds `image.onnx` (input `pixels`, float32 (b, 3, resolution, resolution), resized and normalized) and
`text.onnx` (input `token_ids`, int64 (b, max_words)), each with one output `codes`, float32 (b, k) in (-1, 1), for any
batch size b; and `config.json` with the settings of the preprocessing. Opset 18.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from math_hash.data.images import ImageTransform
from math_hash.encoders.tokenizers import BytePairTokenizer
from math_hash.errors import InputError, import_extra
from math_hash.files import atomic_folder, read_json, require_sums, sums_of, write_text
from math_hash.models.code_model import CONFIG, CodeModel
from math_hash.models.model import HashModel

OPSET = 18
TOLERANCE = 1e-4
FILES = {"image": "image.onnx", "text": "text.onnx"}


class OnnxModel(CodeModel):
    """A model in a folder that `export_onnx` wrote; runs on the CPU, or on a device that onnxruntime supports.

    Raises:
        InputError: the folder is damaged or of another version, or onnxruntime is not installed.
    """

    def __init__(self, folder: str | Path):
        onnxruntime = import_extra("onnxruntime", "onnx", folder)
        folder = Path(folder)
        config = read_json(folder / CONFIG)
        try:
            self.method, self.k_bits, self.max_words = config["method"], config["k_bits"], config["max_words"]
            self._fingerprint, self.results = config["fingerprint"], config["results"]
            self.precision = config.get("precision", "no")
            mean, std = tuple(config["mean"]), tuple(config["std"])
            self._transform = ImageTransform(config["resolution"], mean, std, config.get("interpolation", "bicubic"))
            require_sums(folder, config["sha256"])
            providers = onnxruntime.get_available_providers()
            self._sessions = {
                modality: onnxruntime.InferenceSession(str(folder / name), providers=providers)
                for modality, name in FILES.items()
            }
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(f"{folder}: damaged or of another version ({error}); export it again") from error

    @property
    def fingerprint(self) -> str:
        """That of the exported model, so codes of both can be compared."""
        return self._fingerprint

    @property
    def image_transform(self) -> ImageTransform:
        """See `CodeModel.image_transform`."""
        return self._transform

    @property
    def device(self) -> torch.device:
        """The device of the inputs and the codes."""
        return torch.device("cpu")

    def tokenize(self, texts: list[str], max_words: int) -> Tensor:
        """See `CodeModel.tokenize`."""
        return BytePairTokenizer()(texts, max_words)

    def hash_image(self, images: Tensor) -> Tensor:
        """See `CodeModel.hash_image`."""
        return self._run("image", "pixels", images.float())

    def hash_text(self, texts: Tensor) -> Tensor:
        """See `CodeModel.hash_text`."""
        return self._run("text", "token_ids", texts)

    def _run(self, modality: str, name: str, value: Tensor) -> Tensor:
        return torch.from_numpy(self._sessions[modality].run(["codes"], {name: value.cpu().numpy()})[0])


class _Stream(nn.Module):
    """One modality of a model, from input to continuous codes."""

    def __init__(self, model: HashModel, modality: str):
        super().__init__()
        self.model, self.modality = model, modality

    def forward(self, value: Tensor) -> Tensor:
        return self.model.hash_image(value) if self.modality == "image" else self.model.hash_text(value)


def export_onnx(model: HashModel, folder: str | Path) -> dict[str, float]:
    """Write a model as ONNX files, after comparing them with PyTorch on random input.

    Returns:
        The largest difference in the continuous codes of "image" and "text".

    Raises:
        InputError: the model takes stored features or has another tokenizer than CLIP's, a needed package is missing,
            the folder already exists, or the codes differ by more than 1e-4, or in the sign of a value that is further
            from zero than that.
    """
    onnxruntime = import_extra("onnxruntime", "onnx", folder)
    import_extra("onnxscript", "onnx", folder)
    transform, folder = model.image_transform, Path(folder)
    if not model.encoder.tokenizer.is_clips:
        raise InputError(f"{folder}: this encoder's tokenizer is not CLIP's, and ONNX models support no other")
    if folder.exists():
        raise InputError(f"{folder}: already exists; remove it, or name another folder")
    model = model.to("cpu").eval()
    random = torch.Generator().manual_seed(0)
    side = transform.resolution
    words = ["a red circle", "two dogs on a beach at sunset", "", "sky, clouds " * 20, "x"]
    inputs = {
        "image": ("pixels", torch.randn(5, 3, side, side, generator=random)),
        "text": ("token_ids", model.tokenize(words, model.max_words)),
    }
    differences = {}
    with atomic_folder(folder) as building, torch.inference_mode():
        for modality, (name, example) in inputs.items():
            stream = _Stream(model, modality).eval()
            torch.onnx.export(
                stream, (example,), building / FILES[modality], input_names=[name], output_names=["codes"],
                opset_version=OPSET, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
                external_data=False, verbose=False,
            )  # fmt: skip
            session = onnxruntime.InferenceSession(str(building / FILES[modality]), providers=["CPUExecutionProvider"])
            differences[modality] = max(
                _compare(folder, modality, stream(value).numpy(), session.run(["codes"], {name: value.numpy()})[0])
                for value in (example, example[:1])
            )
        config: dict[str, Any] = {
            "format": "onnx", "opset": OPSET, "method": model.method, "k_bits": model.k_bits,
            "max_words": model.max_words, "resolution": side, "mean": transform.mean, "std": transform.std,
            **({} if transform.interpolation == "bicubic" else {"interpolation": transform.interpolation}),
            "fingerprint": model.fingerprint, "results": model.results, "largest_difference": differences,
            "sha256": sums_of(building),
        }  # fmt: skip
        write_text(building / CONFIG, json.dumps(config, indent=2) + "\n")
    return differences


def _compare(folder: Path, modality: str, wanted: np.ndarray, exported: np.ndarray) -> float:
    difference = float(np.abs(wanted - exported).max())
    clear = np.abs(wanted) > TOLERANCE
    if not difference <= TOLERANCE or ((wanted >= 0) != (exported >= 0))[clear].any():
        raise InputError(
            f"{folder}: the exported {modality} codes differ from PyTorch's by {difference:.1e}; expected at most "
            f"{TOLERANCE:.0e}; nothing was written"
        )
    return difference
