"""DJSRH: deep joint-semantics reconstructing hashing, which needs no labels.

Su, Zhong and Zhang, "Deep Joint-Semantics Reconstructing Hashing for Large-Scale Unsupervised Cross-Modal Retrieval",
ICCV 2019. The similarity of two instances is computed from the features of the encoder before training, both modalities
together; the codes tanh(sqrt(epoch + 1) x) reconstruct it. The defaults are those of the release for MIRFlickr
(`beta` is 0.6 for NUS-WIDE; for Wiki it is 0.3, and `within` 0.3).

Options that the release does not have, all off: `center` centers the features over the training rows, since CLIP's
vectors all lie in one narrow cone; `contrast` adds a contrastive term between the codes of an image and of its own
text, without which an encoder that was not trained on pairs learns little.
"""

from torch import Tensor

from math_hash.data import Needs
from math_hash.methods.growing_tanh import GrowingTanh
from math_hash.methods.method import Codes, TrainingSet
from math_hash.methods.objectives import cosine, info_nce


class DJSRH(GrowingTanh):
    """The objective, on a two-layer head per modality.

    Args:
        width: d, of the encoder's features.
        k_bits: k.
        beta, eta, mu: weight of the images' affinity, weight of the second-order affinity, and scale (section 4.1).
        within: weight of the terms within a modality.
        center: center the features from which the similarity is computed.
        contrast, temperature: weight and temperature of a contrastive term between the modalities.
        hidden: width of the heads' hidden layer; 0 for one linear layer.
    """

    needs = Needs(labels=False)

    def __init__(
        self,
        width: int,
        k_bits: int,
        *,
        beta: float = 0.9,
        eta: float = 0.4,
        mu: float = 1.5,
        within: float = 0.1,
        center: bool = False,
        contrast: float = 0.0,
        temperature: float = 0.2,
        hidden: int = 2048,
    ):
        super().__init__(width, k_bits, hidden=hidden)
        self.beta, self.eta, self.mu, self.within = beta, eta, mu, within
        self.center, self.contrast, self.temperature = center, contrast, temperature

    def prepare(self, training: TrainingSet) -> None:
        features = training.image, training.text
        self.features = [f - f.mean(dim=0) for f in features] if self.center else features

    def loss_terms(self, outputs: Codes, bank: Codes, bank_labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        image_features, text_features = (features[rows] for features in self.features)
        S = self.mu * joint_semantics(image_features, text_features, self.beta, self.eta)
        image, text = outputs["image"], outputs["text"]
        terms = {
            "image": self.within * (S - cosine(image, image)).square().mean(),
            "cross": (S - cosine(image, text)).square().mean(),
            "text": self.within * (S - cosine(text, text)).square().mean(),
        }
        return terms | ({"contrast": self.contrast * info_nce(image, text, self.temperature)} if self.contrast else {})


def joint_semantics(image: Tensor, text: Tensor, beta: float, eta: float) -> Tensor:
    """Joint-semantics affinity of a batch (section 3.3, equations 3 and 4): (b, b).

    S~ = beta (2 C_I - 1) + (1 - beta) (2 C_T - 1), with C the cosines of features, and
    S = (1 - eta) S~ + eta S~ S~^T / b.
    """
    S = beta * (2 * cosine(image, image) - 1) + (1 - beta) * (2 * cosine(text, text) - 1)
    return (1 - eta) * S + eta * S @ S.T / len(S)
