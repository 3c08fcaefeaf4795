"""Figures from papers, and which methods here are what their authors released."""

from textwrap import wrap
from typing import NamedTuple

RELEASED = (
    "MATH", "MITH", "CMCL", "DSPH", "DCGH", "DScPH", "DNPH", "DNpH", "DHaPH", "DCHMT", "TwDH", "DMsH-LN", "DDBH",
    "DDWSH", "DPBE", "DPSIH", "DIMCH", "MESDCH", "MLSPH", "SCAHN", "DCMH", "UCCH", "DGCPN", "CIRH", "JDSH", "DJSRH",
)  # fmt: skip
"""Methods whose objective equals their authors' code, by `tests/test_released_objectives.py`."""
LEFT_OUT = {"DPBE": "its Laplace approximation"}
"""Parts of releases that are not here."""
RECONSTRUCTED = ("MMACH", "ClassifierBits")
"""Methods that were built from the words of a paper, of which no code was released."""


class Published(NamedTuple):
    """Figures of one paper: dataset -> (image->text, text->image) at each of the lengths."""

    method: str
    metric: str
    source: str
    figures: dict[str, tuple[tuple[float, float], ...]]


LENGTHS = (16, 32, 64)
PUBLISHED = (
    Published(
        "MITH",
        "mAP@all",
        "Liu et al., ACM MM 2023: CLIP ViT-B/32, fine-tuned; the splits of that paper",
        {
            "MIRFlickr-25K": ((0.8464, 0.8228), (0.8645, 0.8389), (0.8718, 0.8468)),
            "NUS-WIDE": ((0.7004, 0.7140), (0.7148, 0.7276), (0.7297, 0.7401)),
            "MS COCO": ((0.7039, 0.7017), (0.7359, 0.7358), (0.7664, 0.7661)),
        },
    ),
    Published(
        "DCHMT",
        "mAP@all",
        "Tu et al., ACM MM 2022: CLIP ViT-B/32, fine-tuned; the splits of that paper",
        {
            "MIRFlickr-25K": ((0.8263, 0.8116), (0.8272, 0.8137), (0.8441, 0.8281)),
            "NUS-WIDE": ((0.6799, 0.6876), (0.6992, 0.7104), (0.7038, 0.7253)),
            "MS COCO": ((0.6447, 0.6531), (0.6757, 0.6832), (0.6915, 0.7025)),
        },
    ),
    Published(
        "TwDH",
        "mAP@5000, a mean over the first 5,000 rows of each ranking",
        "its authors: CLIP ViT-B/32, fine-tuned; the split of that paper",
        {"MIRFlickr-25K": ((0.8783, 0.8566), (0.8927, 0.8718), (0.8993, 0.8759))},
    ),
    Published(
        "DCMH",
        "mAP@all",
        "Jiang and Li, CVPR 2017, table 2: CNN-F; 20,015 rows, 2,000 queries, 10,000 training rows",
        {"MIRFlickr-25K": ((0.7410, 0.7827), (0.7465, 0.7900), (0.7485, 0.7932))},
    ),
)


def published_page() -> list[str]:
    """The lines of the section on published figures: one table per paper, one column per dataset."""
    lines = [
        "## Published figures",
        "",
        "From the methods' own papers: image->text / text->image. Papers differ in metric, split and encoder, so each",
        "has a table of its own, and none of them can be compared with the tables above.",
    ]
    for paper in PUBLISHED:
        lines += ["", f"{paper.method}, {paper.metric} ({paper.source}):", ""]
        lines += [f"| bits | {' | '.join(paper.figures)} |", "| --- |" + " --- |" * len(paper.figures)]
        for k_bits, *cells in zip(LENGTHS, *paper.figures.values(), strict=True):
            lines.append(f"| {k_bits} | {' | '.join(f'{image:.4f} / {text:.4f}' for image, text in cells)} |")
    return lines


def provenance_page(methods: list[str]) -> list[str]:
    """The lines that say which of these methods are their authors' and which are not."""
    released = [method for method in methods if method in RELEASED]
    rebuilt = [method for method in methods if method in RECONSTRUCTED]
    text = ""
    if released:
        text = (
            f"Equal to the authors' released code: {', '.join(released)}. Every term of the objective and all "
            "gradients are compared with numbers that this code returned, from one fixture `<METHOD>.npz` each "
            "(`tests/test_released_objectives.py`). Heads, presets and what no fixture holds are described in "
            "[methods](methods.md). "
        )
        text += "".join(f"{method} is without {part}. " for method, part in LEFT_OUT.items() if method in released)
    if rebuilt:
        text += f"Reconstructions from papers, of which no code was released: {', '.join(rebuilt)}."
    return ["## Which methods equal their releases", "", *wrap(text, 116)]
