"""Inputs unlike the training rows."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

import math_hash
from math_hash.data import Needs
from math_hash.errors import InputError
from math_hash.models.training_distribution import FILE, TrainingDistribution, read_distributions, write_distributions


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def fitted():
    random = np.random.default_rng(0)
    map_ = random.standard_normal((6, 6))
    near = unit(random.standard_normal((900, 6)) @ map_ + 4)
    return near[:500], near[500:], TrainingDistribution.fit(near[:500], near[500:], 0.01)


def test_distances_are_mahalanobis_distances(fitted):
    training, others, distribution = fitted
    inverse = np.linalg.inv(np.cov(training.T) + 1e-4 * np.cov(training.T).trace() / 6 * np.eye(6))
    wanted = [mahalanobis(row, training.mean(axis=0), inverse) ** 2 for row in others]
    assert np.allclose(distribution.distances(others), wanted, rtol=1e-3)


def test_one_in_a_hundred_held_out_rows_and_all_distant_ones_are_unlike(fitted):
    _, held_out, distribution = fitted
    assert distribution.is_unlike(held_out).sum() == 4
    assert distribution.is_unlike(-held_out).all()


def test_fewer_rows_than_dimensions_are_enough():
    rows = unit(np.random.default_rng(1).standard_normal((5, 40)) + 3)
    distribution = TrainingDistribution.fit(rows, rows, 0.01)
    assert np.isfinite(distribution.distances(rows)).all()
    assert distribution.is_unlike(-rows).all()


def test_it_travels_with_the_model(trained_run, model, tmp_path):
    assert set(model.distributions) == {"image", "text"}
    assert model.distributions["image"].mean.shape == (model.encoder.stage_widths[0],)
    model.save(tmp_path / "saved")
    again = math_hash.load_model(tmp_path / "saved")
    assert again.fingerprint == model.fingerprint
    for modality, distribution in model.distributions.items():
        for name, value in vars(distribution).items():
            assert np.array_equal(getattr(again.distributions[modality], name), value)
    (tmp_path / "saved" / FILE).write_bytes(b"damaged")
    with pytest.raises(InputError, match=f"{FILE}: damaged"):
        math_hash.load_model(tmp_path / "saved")


def test_what_was_written_is_read(fitted, tmp_path):
    distribution = fitted[2]
    write_distributions(tmp_path, {"image": distribution})
    assert read_distributions(tmp_path)["image"].limit == pytest.approx(distribution.limit)
    assert read_distributions(tmp_path / "elsewhere") == {}


def test_a_query_is_compared_by_the_state_inside_the_tower(model):
    texts = ["red", "green and blue", "zq xv jj kk"]
    with torch.inference_mode():
        ids = model.tokenize(texts, model.max_words)
        states = model.encoder.encode_text(ids, Needs(stages=True)).stages[:, 2].numpy()
    distances = model.distributions["text"].distances(unit(states))
    for text, distance in zip(texts, distances, strict=True):
        encoded = model.encode_query("text", text)
        assert encoded.is_unlike_training == (distance > model.distributions["text"].limit)
        assert np.allclose(encoded.continuous, model.encode_text([text], output="continuous")[0], atol=1e-6)
        assert np.allclose(encoded.vector, model.encode_text([text], output="vector")[0], atol=1e-6)
