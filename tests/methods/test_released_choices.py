"""What the releases do around their objectives: which rows they draw, and which optimizers they use."""

import numpy as np
import pytest
import torch
from methods.plain_pairs import LABELS, N_ROWS, D, build, share

from math_hash.methods import TrainingSet
from math_hash.methods.objectives import distances
from math_hash.methods.registry import METHODS

S = torch.tensor([[share(i, j) for j in range(N_ROWS)] for i in range(N_ROWS)])


def plain_probabilities(points, of_interest, dimension):
    """1/q of the distances from each row to the rows of interest, as shares; q is their density on the sphere."""
    rows = []
    for i, point in enumerate(points):
        d = np.maximum(np.linalg.norm(points - point, axis=1), 0.5)
        weights = d ** (2.0 - dimension) * np.maximum(1 - d**2 / 4, 1e-8) ** (-(dimension - 3) / 2)
        rows.append(np.where(of_interest[i], weights, 0) / max(np.where(of_interest[i], weights, 0).sum(), 1e-300))
    return np.array(rows)


@pytest.mark.parametrize("sampler", ["released", "paper"])
def test_ddwsh_draws_dissimilar_rows_by_the_density_of_their_distance(sampler):
    method = build("DDWSH", k=8, sampler=sampler)
    codes = torch.nn.functional.normalize(torch.randn(N_ROWS, 8, generator=torch.Generator().manual_seed(2)))
    D = distances(codes, codes)
    drawn = torch.cat([method.triplets(D, S) for _ in range(600)]).numpy()
    similar, points = S.numpy() > 0, (D if sampler == "released" else codes).double().numpy()
    assert similar[drawn[:, 0], drawn[:, 1]].all()
    assert (drawn[:, 0] != drawn[:, 1]).all()
    far = D.numpy() < (np.inf if sampler == "released" else 1.4)
    expected = plain_probabilities(points, ~similar & far, N_ROWS if sampler == "released" else 8)
    anchors = [i for i in range(N_ROWS) if expected[i].any() and similar[i].sum() > 1]
    assert sorted(set(drawn[:, 0])) == anchors
    per_anchor = [1 if sampler == "released" else similar[i].sum() - 1 for i in anchors]
    assert len(drawn) == 600 * sum(per_anchor)
    for i in anchors:
        counted = np.bincount(drawn[drawn[:, 0] == i, 2], minlength=N_ROWS)
        assert np.abs(counted / counted.sum() - expected[i]).max() < 0.09


def test_the_triplets_of_a_hierarchy_are_of_mutual_neighbors_and_labels_come_first():
    method = build("DHaPH", neighbors=4, triplets=200)
    nearness = torch.rand(N_ROWS, N_ROWS, generator=torch.Generator().manual_seed(4)) + S
    drawn = {tuple(triplet) for triplet in method.draw_triplets(nearness).tolist()}
    ranked = np.argsort(-nearness.numpy(), axis=1)[:, :4]
    mutual = {(i, j) for i in range(N_ROWS) for j in ranked[i] if i in ranked[j] and i != j}
    anchors = [i for i in range(N_ROWS) if sum((i, j) in mutual for j in range(N_ROWS)) > 1]
    expected = {
        (i, j, k) for i, j in mutual if i in anchors for k in range(N_ROWS) if (i, k) not in mutual
    }  # k may be i, as released
    assert drawn <= expected
    assert len(drawn) > 0.9 * len(expected)


def test_the_neighbors_of_a_label_are_nearer_than_all_others():
    method = build("DHaPH", k=16)
    seen = []
    method.draw_triplets = lambda nearness: seen.append(nearness) or torch.zeros(0, 3, dtype=torch.long)
    codes = {name: torch.rand(N_ROWS, 16) for name in ("image", "text")}
    method.loss_terms(codes, {}, torch.from_numpy(LABELS), torch.arange(N_ROWS))
    of_codes = [nearness for nearness in seen if len(nearness) == N_ROWS]
    assert len(of_codes) == 2
    for nearness in of_codes:
        assert nearness[S > 0].min() > nearness[S == 0].max()


@pytest.mark.parametrize(("options", "own"), [({}, []), ({"proxy_lr": 1e-5}, ["proxies"])])
def test_the_proxies_of_dscph_learn_with_the_heads_unless_they_have_a_rate(options, own):
    method = build("DScPH", **options)
    groups = method.parameter_groups()
    assert [p is getattr(method, name) for name, group in zip(own, groups, strict=True) for p in group["params"]] == [
        True for _ in own
    ]


def test_the_boundaries_of_ddwsh_decay_as_all_parameters_of_bertadam():
    assert build("DDWSH").parameter_groups() == []


@pytest.mark.parametrize("by", ["position", "rows"])
def test_the_hash_functions_of_cirh_keep_the_affinity_of_a_position_or_of_their_rows(by):
    torch.manual_seed(0)
    method = METHODS["CIRH"](D, 8, graph_width=16, hidden=16, affinity_by=by)
    vectors = torch.randn(N_ROWS, D)
    method.prepare(TrainingSet(vectors, vectors.flip(0), torch.from_numpy(LABELS)))
    kept = []
    method.hash_terms = lambda outputs, B, affinity: kept.append(affinity) or {}
    codes = {name: torch.rand(4, 8) for name in ("image", "text")}
    batches = [torch.tensor([9, 1, 5, 2]), torch.tensor([0, 3, 8, 10])]
    for _ in range(2):
        method.on_epoch(1, 2, {})
        for rows in batches:
            method.loss_terms(codes, {}, torch.zeros(N_ROWS, 1), rows)
    places = [torch.arange(4), torch.arange(4, 8)] if by == "position" else batches
    for affinity, rows in zip(kept, places * 2, strict=True):
        assert torch.equal(affinity, method.S[rows][:, rows])


def test_cirh_mixes_a_row_with_its_neighbors_in_the_batch():
    torch.manual_seed(0)
    method = METHODS["CIRH"](D, 8, graph_width=16, hidden=16, dropped=0.0)  # no ties of dropped ones
    vectors = torch.randn(N_ROWS, D)
    method.prepare(TrainingSet(vectors, vectors.flip(0), torch.from_numpy(LABELS)))
    given = []
    method.graph_terms = lambda codes, features, affinity: given.append(features[0]) or {}
    rows = torch.tensor([9, 1, 5, 2, 0])
    codes = {name: torch.rand(5, 8) for name in ("image", "text")}
    method.loss_terms(codes, {}, torch.zeros(N_ROWS, 1), rows)
    for place, row in enumerate(rows.tolist()):
        ranked = sorted(rows.tolist(), key=lambda other: -float(method.S[row, other]))
        expected = 0.7 * vectors[row] + 0.2 * vectors[ranked[2]] + 0.1 * vectors[ranked[3]]
        assert torch.allclose(given[0][place], expected, atol=1e-6)
