"""Methods whose codes of images depend on more than the image, each in one way."""

import torch

from math_hash.methods.dcmh import DCMH


class FusedWithText(DCMH):
    """Mixes an image with the text that was hashed before it, as one forward pass over pairs does."""

    text = ()

    def hash_text(self, text):
        self.text = self.heads["text"](text.pooled)
        return self.text

    def hash_image(self, image):
        codes = self.heads["image"](image.pooled)
        return torch.tanh(codes + self.text) if len(self.text) == len(codes) else codes


class FusedWithLabels(DCMH):
    """Mixes an image with the labels of the batch that its objective saw last."""

    def outputs(self, features, labels):
        self.labels = labels.float()
        return super().outputs(features, labels)

    def hash_image(self, image):
        codes = self.heads["image"](image.pooled)
        return torch.tanh(codes + (self.labels @ torch.eye(self.labels.shape[1], self.k_bits)) * 4 - 2)


class Centered(DCMH):
    """Subtracts the mean of the batch."""

    def hash_image(self, image):
        codes = self.heads["image"](image.pooled)
        return codes - codes.mean(dim=0)
