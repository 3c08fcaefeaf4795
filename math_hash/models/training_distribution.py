"""Whether a picture or a text is unlike those that a model was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from torch import Tensor
from torch.nn import functional as F

from math_hash.encoders.features import Features
from math_hash.encoders.state_dict import read_state_dict
from math_hash.errors import InputError
from math_hash.files import write_bytes

FILE = "distribution.safetensors"  # of a saved model
_RIDGE = 1e-4  # of the mean variance, added to every variance


@dataclass(frozen=True)
class TrainingDistribution:
    """The states of a model's training rows, of one modality, inside the encoder, as a normal distribution.

    An input counts as unlike them if the squared Mahalanobis distance of its state is above the one that a stated
    share of held-out rows exceeds. That is Lee, Lee, Lee and Shin, "A simple unified framework for detecting
    out-of-distribution samples and adversarial attacks" (NeurIPS 2018), section 2, with one class, since rows have
    several labels each, and one layer; as there, one before the last tells noise apart that the last one does not.

    Attributes:
        mean: float32 (d,).
        precision: the inverse of the covariance, float32 (d, d).
        limit: of the squared distance.
    """

    mean: np.ndarray
    precision: np.ndarray
    limit: float

    @classmethod
    def fit(cls, training: np.ndarray, held_out: np.ndarray, rate: float) -> "TrainingDistribution":
        """Fit to `compared_vectors`, float (n, d); a share `rate` of the held-out ones, (m, d), is unlike them."""
        training = np.asarray(training, np.float64)
        mean, covariance = training.mean(axis=0), np.atleast_2d(np.cov(training.T))
        covariance += _RIDGE * covariance.trace() / len(mean) * np.eye(len(mean))
        fitted = cls(mean.astype(np.float32), np.linalg.pinv(covariance).astype(np.float32), 0.0)
        return cls(fitted.mean, fitted.precision, float(np.quantile(fitted.distances(held_out), 1 - rate)))

    def distances(self, vectors: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distances of `compared_vectors`, float (n, d): float32 (n,)."""
        differences = np.asarray(vectors, np.float32) - self.mean
        return ((differences @ self.precision) * differences).sum(axis=1)

    def is_unlike(self, vectors: np.ndarray) -> np.ndarray:
        """Which of `compared_vectors`, float (n, d), are unlike those of the training rows: bool (n,)."""
        return self.distances(vectors) > self.limit


def compared_vectors(features: Features) -> Tensor:
    """What is compared of inputs: their pooled states at three quarters of the tower's depth, float32 (b, w).

    They have length 1. Encoders without such states are compared by their pooled vectors.
    """
    states = features.pooled if features.stages is None else features.stages[:, 2]
    return F.normalize(states.float(), dim=1)


def write_distributions(folder: Path, distributions: Mapping[str, TrainingDistribution]) -> None:
    """Write the distributions of modalities, "image" and "text", next to a model.

    Raises:
        InputError: the file could not be written.
    """
    arrays = {
        f"{modality}.{name}": np.asarray(value, np.float32)
        for modality, distribution in distributions.items()
        for name, value in vars(distribution).items()
    }
    write_bytes(folder / FILE, save(arrays))


def read_distributions(folder: Path) -> dict[str, TrainingDistribution]:
    """The distributions next to a model, by modality; none if it has no such file.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        arrays = {name: value.float().numpy() for name, value in read_state_dict(path).items()}
        return {
            modality: TrainingDistribution(
                arrays[f"{modality}.mean"], arrays[f"{modality}.precision"], float(arrays[f"{modality}.limit"])
            )
            for modality in sorted({name.partition(".")[0] for name in arrays})
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); delete it, or train again") from error
