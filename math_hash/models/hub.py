"""Models on the Hugging Face Hub: a folder with weights, configuration, results and a model card."""

import tempfile
from pathlib import Path
from typing import Any, Protocol

import huggingface_hub

from math_hash.errors import InputError, one_line
from math_hash.files import require_replaceable, write_text
from math_hash.models.code_model import CONFIG, RESULTS, WEIGHTS
from math_hash.models.training_distribution import FILE as DISTRIBUTION


class Savable(Protocol):
    """A model that can be saved to a folder, such as `HashModel`."""

    method: str
    k_bits: int
    results: dict[str, Any] | None

    def save(self, folder: str | Path) -> None:
        """Write weights, configuration and results."""


_FILES = [CONFIG, WEIGHTS, RESULTS, DISTRIBUTION, "image.onnx", "text.onnx"]


def save_pretrained(model: Savable, folder: str | Path, name: str = "") -> None:
    """Write a model and its card to a folder that `load_model` opens.

    Args:
        name: the name that the card's example loads; the folder by default.

    Raises:
        InputError: a file could not be written, or the folder holds other things than a model.
    """
    require_replaceable(folder, (CONFIG, WEIGHTS))
    model.save(folder)
    write_text(Path(folder) / "README.md", model_card(model, name or str(folder)))


def push_to_hub(model: Savable, name: str, private: bool = False, token: str | None = None) -> str:
    """Upload a model and its card to the hub as `user/name`, which is created if it is missing. Returns its address.

    Raises:
        InputError: the hub refuses, or cannot be reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, name)
        try:
            api = huggingface_hub.HfApi(token=token)
            address = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"{model.method}, {model.k_bits} bits")
        except Exception as error:  # network and hub errors of many kinds
            raise InputError(f"{name}: cannot be uploaded ({one_line(error)}); log in with `hf auth login`") from error
    return str(address)


def download(name: str) -> Path:
    """Download a model from the hub, or find it in the cache: weights, configuration and results, no code.

    Raises:
        InputError: there is no model of that name, or the hub cannot be reached and it is not in the cache.
    """
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:
        raise InputError(
            f"{name}: no such folder or file, and the hub returned no model of that name ({one_line(error)}); "
            "expected a run folder, a saved folder, a released MATH .pth, or user/name on huggingface.co"
        ) from error


def model_card(model: Savable, name: str) -> str:
    """The card, in Markdown: how to use the model, its protocol, and its results."""
    results = model.results or {}
    lines = [
        "---", "library_name: math_hash", "tags: [cross-modal-hashing, clip, image-text-retrieval]",
        "---", "", f"# {model.method}, {model.k_bits} bits", "",
        "Cross-modal hashing: pictures and texts become binary codes that are compared by Hamming distance.", "",
        "```python", "import math_hash", f'model = math_hash.load_model("{name}")',
        'codes = model.encode_text(["two dogs on a beach"])  # packed uint8', "```", "",
    ]  # fmt: skip
    if scores := results.get("mAP"):
        lines += [
            "## Results", "",
            f"Dataset {results.get('dataset')}, protocol {results.get('protocol')}: {results.get('queries')} queries, "
            f"{results.get('database')} database rows, {results.get('training_rows')} of them training rows; mean "
            "average precision over the whole ranking, ties by database order; epoch selected on "
            f"{results.get('selected_on')}. Chance level is {results.get('floor', 0):.4f}.", "",
            "| direction | mAP | mAP without training rows |", "|---|---|---|",
        ]  # fmt: skip
        without = results.get("mAP_without_training_rows") or {}
        lines += [
            f"| {direction} | {value:.4f} | {without.get(direction, float('nan')):.4f} |"
            for direction, value in scores.items()
        ]
    else:
        lines.append("No evaluation is recorded with this model.")
    return "\n".join(lines) + "\n"
