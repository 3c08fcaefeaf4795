"""Objectives on batches, on the inputs of a released case: a function per method, as `adapters` describes."""

import pytest
import torch

from math_hash.methods import METHODS, TrainingSet
from math_hash.methods.cirh import GraphCodes
from math_hash.methods.dimch import Outputs as DimchOutputs
from math_hash.methods.dnph import Outputs as DnphOutputs
from math_hash.methods.dpsih import Outputs as DpsihOutputs
from released.adapters import BOTH, assign, batch_only, swapped
from released.fixtures import WIDTH, Case


def dsph(case: Case):
    method = METHODS["DSPH"](
        WIDTH, case.k, case.x["labels"].shape[1], margin=case.option["threshold"], repulsion=case.option["alpha"]
    )
    return batch_only(case, assign(method, proxies=case.x["proxies"]))


def dcgh(case: Case):
    o = case.option
    method = METHODS["DCGH"](
        WIDTH, case.k, case.x["labels"].shape[1], repulsion=o["n2n"], attraction=o["p2p"], variance=o["variance"]
    )
    return batch_only(case, assign(method, proxies=case.x["proxies"]))


def dchmt(case: Case):
    o, x = case.option, case.x
    method = METHODS["DCHMT"](
        WIDTH, x["image"].shape[1], vartheta=o["vartheta"], codes="linear" if o["linear"] else "softmax",
        distance="cosine" if o["cosine"] else "euclidean", norm="l1" if o["l1"] else "l2",
    )  # fmt: skip
    terms, names = batch_only(case, method, rename=lambda terms: {n: [n.replace(" ", "_")] for n in terms})
    return terms, names | ({"quan": ["quantization"]} if o["linear"] else {})


def dnph(case: Case):
    o, x = case.option, case.x
    method = METHODS["DNPH"](
        WIDTH, case.k, x["labels"].shape[1], margin=o["margin"], uniform=o["noise_weight"], train_proxies=True
    )
    assign(method, proxies=x["proxies"])
    method.noise = lambda codes: x["noise"].float()
    outputs = {name: DnphOutputs(x[name], x[f"{name}_logits"]) for name in BOTH}
    return batch_only(case, method, outputs)


def dnph_quadratic(case: Case, name: str):
    kind = {"affinity": "gaussian"} if name == "gaussian" else {"clamped": name != "unclamped"}
    method = METHODS["DNpH"](WIDTH, case.k, sigma=case.option.get("sigma", 3.0), **kind)
    return batch_only(case, method, rename=lambda terms: {n: [n.replace(" ", "_")] for n in terms})


def dpbe(case: Case):
    return batch_only(case, METHODS["DPBE"](WIDTH, case.k))


def ddbh(case: Case):
    o = case.option
    method = METHODS["DDBH"](WIDTH, case.k, hardest=1 - o["percent"], quan=o["quantization"])
    terms, names = batch_only(case, method)
    return terms, names | {f"{name} quan": [f"quantization_{name}"] for name in BOTH}


def ddwsh(case: Case):
    method = METHODS["DDWSH"](WIDTH, case.k, case.x["labels"].shape[1], margin=case.option["margin"])
    assign(method, boundaries=case.x["beta"])
    given = iter([case.extra[f"{name}_triplets"].long() for name in (*BOTH, "cross")])
    method.triplets = lambda D, S: next(given)
    return batch_only(case, method)


def dscph(case: Case):
    o = case.option
    assert (o["sp"], o["mu"], o["b"]) == (o["sn"], 1.0, 2.0)
    method = METHODS["DScPH"](
        WIDTH, case.k, case.x["labels"].shape[1], tau=o["tau"], psi=o["psi"], steepness=o["sp"], train_rotation=True
    )
    return batch_only(case, assign(method, proxies=case.x["proxies"], rotation=case.x["rotation"]))


def dmsh_ln(case: Case):
    o, x = case.option, case.x
    network = "label_net.fc1.weight" in x
    method = METHODS["DMsH-LN"](
        WIDTH, case.k, x["labels"].shape[1], similar="network" if network else "labels", base=o["threshold"],
        margin=o["margin"], positive_scale=o["scale_pos"], negative_scale=o["scale_neg"],
    )  # fmt: skip
    if network:
        for ours, theirs in (("0", "fc1"), ("2", "fc2")):
            for kind in ("weight", "bias"):
                assign(method, **{f"label_network.{ours}.{kind}": x[f"label_net.{theirs}.{kind}"]})
    method.on_epoch(int(o["epoch"]) + 1, 100, {})
    assert (method.similarity(x["labels"]) == case.extra["similar"].bool()).all()
    return batch_only(case, method)


def twdh(case: Case):
    o, x = case.option, case.x
    c, long = x["labels"].shape[1], x["long_centers"].shape[1]
    method = METHODS["TwDH"](
        WIDTH, x["short_centers"].shape[1], c, long_bits=long, quan=o["quan_alpha"], short=o["low_rate"]
    )
    method.centers, method.short_centers = x["long_centers"], x["short_centers"]
    targets = iter([x["long_targets"], x["short_targets"]])
    target, method._target = method._target, lambda labels, centers: next(targets)
    short = {id(x[f"{name}_long"]): x[f"{name}_short"] for name in BOTH}
    method.shorten = lambda long: short[id(long)]
    outputs = {name: x[f"{name}_long"] for name in BOTH}
    for kind in ("long", "short"):  # ties are decided at random
        decided = (x["labels"] @ x[f"{kind}_centers"] != 0).repeat_interleave(2, dim=1)
        assert (target(x["labels"], x[f"{kind}_centers"]) == x[f"{kind}_targets"])[decided].all()
    terms, _ = batch_only(case, method, outputs)
    unweighted = method._terms("short", {name: x[f"{name}_short"] for name in BOTH}, x["short_targets"], (1.0, 1.0))
    for name in BOTH:  # which weigh 0 in one case
        assert float(unweighted[f"{name} short"]) == pytest.approx(case.term[f"short_{name}"], rel=5e-5)
        quantization = case.term[f"short_quantization_{name}"]
        assert float(unweighted[f"{name} short quan"]) == pytest.approx(quantization, rel=5e-5)
    names = {}
    for name in BOTH:
        for kind in ("long", "short"):
            names |= {f"{name} {kind}": [f"{kind}_{name}"], f"{name} {kind} quan": [f"{kind}_quantization_{name}"]}
    return terms, {ours: theirs for ours, theirs in names.items() if ours in terms}


def dpsih(case: Case):
    o, x = case.option, case.x
    method = METHODS["DPSIH"](
        WIDTH, case.k, codes=int(o["num_embeds"]), margin=o["margin"], triplet=case.weight["triplet_image"],
        distribution=o["alpha1"], diversity=o["alpha2"], gamma=o["rbf_gamma"],
        reduce="mean" if o["reduce_mean"] else "sum",
    )  # fmt: skip
    return batch_only(case, method, {name: DpsihOutputs(x[name], x[f"{name}_residual"]) for name in BOTH})


def dimch(case: Case):
    o, x = case.option, case.x
    bits = case.k // (2 if o["softmax"] else 1)
    assert o["triplet_margin"] == o["token_triplet_margin"]
    assert o["denominator"] == 2
    method = METHODS["DIMCH"](
        WIDTH, bits, set_size=int(o["set_size"]), codes="softmax" if o["softmax"] else "tanh",
        token_triplet=o["triplet_alpha"], hash_triplet=o["hash_triplet_alpha"], mmd=o["mmd_alpha"],
        diversity=o["unif_alpha"], quan=o["quan_alpha"], margin=o["triplet_margin"], temperature=o["temperature"],
        gamma=o["mmd_gamma"], spread=o["uniformity_t"],
    )  # fmt: skip
    terms, _ = batch_only(case, method, {name: DimchOutputs(x[f"{name}_tokens"], x[name]) for name in BOTH})
    return terms, {
        "image tokens": ["tokens_i2t"], "text tokens": ["tokens_t2i"], "mmd": ["mmd"], "diversity": ["diversity"],
        "image hash": ["hash_i2t"], "text hash": ["hash_t2i"], "image quan": ["quantization_image"],
        "text quan": ["quantization_text"],
    }  # fmt: skip


def djsrh(case: Case):
    o, x = case.option, case.x
    assert o["lambda1"] == o["lambda2"]
    method = METHODS["DJSRH"](WIDTH, case.k, beta=o["beta"], eta=o["eta"], mu=o["mu"], within=o["lambda1"])
    rows = torch.arange(len(x["image"]))
    method.prepare(TrainingSet(x["image_features"], x["text_features"], torch.zeros(len(rows), 1)))
    terms = method.loss_terms({name: x[name] for name in BOTH}, {}, torch.zeros(len(rows), 1), rows)
    return terms, {name: [name] for name in terms}


def jdsh(case: Case, name: str):
    o, x = case.option, case.x
    weighting = {"MIRFlickr": "mirflickr", "NUSWIDE": "nuswide"}[name]
    method = METHODS["JDSH"](WIDTH, case.k, weighting=weighting, mu=o["mu"], within=o["INTRA"])
    rows = torch.arange(len(x["image"]))
    method.prepare(TrainingSet(x["image_features"], x["text_features"], torch.zeros(len(rows), 1)))
    terms = method.loss_terms({name: x[name] for name in BOTH}, {}, torch.zeros(len(rows), 1), rows)
    return terms, {name: [name] for name in terms}


def ucch(case: Case):
    o, x = case.option, case.x
    method = METHODS["UCCH"](
        WIDTH, case.k, contrast=o["alpha"], margin=o["margin"], shift=o["shift"], temperature=o["temperature"],
        momentum=o["momentum"],
    )  # fmt: skip
    method.warming = bool(o["warm_up"])
    method.draw = lambda rows, n: x["drawn"][:, 1:].long()
    bank = {"memory": x["memory"].clone()}
    terms = method.loss_terms({name: x[name] for name in BOTH}, bank, torch.zeros(40, 1), case.rows)
    assert torch.allclose(bank["memory"], case.after["memory"], atol=1e-6)
    return terms, swapped(terms)


def dgcpn(case: Case, name: str):
    o, x = case.option, case.x
    n = len(x["image_features"])
    method = METHODS["DGCPN"](
        WIDTH, case.k, text_share=o["a1"], neighbor_share=o["a2"], dropped=o["knn_number"] / n, scale=o["scale"] / n,
        paired=o["K"], similarity=o["dw"], consistency=o["cw"],
    )  # fmt: skip
    method.prepare(TrainingSet(x["image_features"], x["text_features"], torch.zeros(n, 1)))
    assert torch.allclose(method.S, case.extra["S"], atol=1e-5)
    turn = {"relaxed": BOTH, "text_binarized": ("image",), "image_binarized": ("text",)}[name]
    bank = {name: torch.zeros(n, case.k) for name in BOTH}
    for stream in BOTH:
        bank[stream][case.rows] = x[stream].detach()
    terms = method.loss_terms({stream: x[stream] for stream in turn}, bank, torch.zeros(n, 1), case.rows)
    return terms, {ours: [ours.removeprefix(" ".join(turn) + " ")] for ours in terms}


def dhaph(case: Case):
    o, x = case.option, case.x
    method = METHODS["DHaPH"](
        WIDTH, case.k, temperature=o["temperature"], hierarchy=o["alpha"], margin=o["margin"],
        proxies=int(o["proxies"]), ancestor_temperature=o["lca_tau"], curvature=o["curvature"], longest=o["clip_r"],
    )  # fmt: skip
    assign(method, proxies=x["proxies"])
    assign(method, **{f"projection.{kind}": x[f"projection_{kind}"] for kind in ("weight", "bias")})
    method.on_epoch(int(o["epoch"]), int(o["epochs"]), {})
    order = [f"{kind}{name}" for name in BOTH for kind in ("", "proxies_")]
    triplets = iter([case.extra[f"{name}_triplets"].long() for name in order])
    gumbel = iter([case.extra[f"{name}_gumbel_{kind}"] for name in order for kind in ("pair", "triple")])
    method.draw_triplets, method.gumbel = lambda nearness: next(triplets), lambda count: next(gumbel)
    terms, _ = batch_only(case, method)
    names = {f"{name} contrast": [f"contrast_{name}"] for name in (*BOTH, "cross")}
    for name in BOTH:
        names |= {f"{name} hierarchy": [f"hierarchy_{name}"]}
        names |= {f"{name} hierarchy proxies": [f"hierarchy_proxies_{name}"]}
    return terms, names


def cirh(case: Case, name: str):
    o, x = case.option, case.x
    if name == "hash_functions":
        method = METHODS["CIRH"](WIDTH, case.k, beta=o["beta"])
        terms = method.hash_terms({name: x[name] for name in BOTH}, x["B"], x["S_used"])
        return terms, {"codes": ["codes"], "affinity": ["affinity"]}
    n = len(x["image_features"])
    method = METHODS["CIRH"](
        WIDTH, x["H"].shape[1], image_share=o["a1"], first_order=o["a2"], dropped=o["K"] / n,
        reconstruction=o["lambda1"], affinity=o["lambda2"], neighbors_in="all",
    )  # fmt: skip
    method.prepare(TrainingSet(x["image_features"], x["text_features"], torch.zeros(n, 1)))
    assert torch.allclose(method.S, case.extra["S"], atol=1e-6)
    mixed = [case.extra[f"{name}_mixed"] for name in BOTH]
    for ours, theirs in zip(method.features, mixed, strict=True):
        assert torch.allclose(ours[case.rows], theirs, atol=1e-5)
    codes = GraphCodes(x["HI"], x["HT"], x["H"], x["image_decoded"], x["text_decoded"])
    terms = method.graph_terms(codes, mixed, method.S[case.rows][:, case.rows])
    return terms, {
        "reconstruction": ["reconstruction"], "graph affinity": ["affinity"], "graph quan": ["quantization"],
    }  # fmt: skip
