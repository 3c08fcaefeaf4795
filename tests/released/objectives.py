"""Each method's loss terms on the inputs of a released case: a function per method, case -> our term -> their terms.

A function builds the method with the case's options and inputs, and returns its weighted terms and, for each of them,
the names of the released terms that it holds.
"""

from types import SimpleNamespace

import torch

from math_hash.methods import METHODS, TrainingSet
from math_hash.methods.cirh import GraphCodes
from math_hash.methods.cmcl import Outputs as CmclOutputs
from math_hash.methods.dimch import Outputs as DimchOutputs
from math_hash.methods.dnph import Outputs as DnphOutputs
from math_hash.methods.dpsih import Outputs as DpsihOutputs
from math_hash.methods.math import Stream
from math_hash.methods.mith import Outputs as MithOutputs
from math_hash.methods.scahn import Outputs as ScahnOutputs
from released.fixtures import WIDTH, Case

BOTH = ("image", "text")


def assign(method, **parameters):
    """Put leaves in the place of a module's parameters, so that they receive the gradients."""
    for path, value in parameters.items():
        module, name = method, path
        while "." in name:
            first, name = name.split(".", 1)
            module = module.get_submodule(first)
        if name in module._parameters:
            del module._parameters[name]
        module._buffers.pop(name, None)
        setattr(module, name, value)
    return method


def swapped(names):
    """ "image positive" is their "positive_image"."""
    return {name: ["_".join(reversed(name.split(" ", 1))).replace(" ", "_")] for name in names}


def own_rows(case):
    """Label rows of a batch that is a training set of its own."""
    return case.x["labels"], torch.arange(len(case.x["labels"]))


def batch_only(case, method, outputs=None, rename=None):
    """A method that has no banks."""
    labels, rows = own_rows(case)
    outputs = outputs or {name: case.x[name] for name in BOTH}
    terms = method.loss_terms(outputs, {}, labels, rows)
    return terms, (rename or swapped)(terms)


def mith(case: Case):
    o, x = case.option, case.x
    method = METHODS["MITH"](
        WIDTH, x["img_cls_hash"].shape[1],
        intra=o["hyper_tokens_intra"], inter=o["hyper_cls_inter"], quan=o["hyper_quan"], contrast=o["hyper_info_nce"],
        concept_contrast=o["hyper_alpha"], distill=o["hyper_distill"], global_share=o["hyper_lambda"],
        temperature=o["temperature"],
    )  # fmt: skip
    outputs = {
        name: MithOutputs(
            x[f"res_{m}_cls"], x[f"{m}_cls_hash"], x[f"{m}_tokens_hash"], x[f"trans_tokens_{m[0]}"].transpose(0, 1)
        )
        for name, m in (("image", "img"), ("text", "txt"))
    }
    bank = {
        f"{name}{ours}": x[f"{m}_buffer_{theirs}"].clone()
        for name, m in (("image", "img"), ("text", "txt"))
        for ours, theirs in (("", "cls"), (" tokens", "tokens"))
    }
    write(method, outputs, bank, case)
    terms = method.loss_terms(outputs, bank, x["train_labels"], case.rows)
    return terms, {
        "intra": ["tokens_intra_likelihood"], "inter": ["cls_inter_likelihood"], "quan": ["quantization"],
        "contrast": ["global_info_nce"], "concepts": ["concept_info_nce"], "distill": ["distillation"],
    }  # fmt: skip


def write(method, outputs, bank, case):
    """Write the banks as the loop does."""
    for name, codes in method.bank_codes(outputs).items():
        bank[name][case.rows] = codes.detach()


def math(case: Case):
    o, x = case.option, case.x
    method = METHODS["MATH"](
        WIDTH, x["img_cls_hash"].shape[1],
        hyper_intra=o["hyper_intra"], hyper_inter=o["hyper_inter"], hyper_MSE=o["hyper_MSE"],
        hyper_quan=o["hyper_quan"], hyper_contrast=o["hyper_contrast"], temperature=o["temperature"],
    )  # fmt: skip
    sides = {"image": "img", "text": "txt", "label": "lab"}
    outputs = {name: Stream(x[f"res_{m}_cls"], x[f"{m}_cls_hash"], x[f"{m}_tokens_hash"]) for name, m in sides.items()}
    bank = {name: x[f"{m}_buffer_cls"].clone() for name, m in sides.items()}
    write(method, outputs, bank, case)
    terms = method.loss_terms(outputs, bank, x["train_labels"], case.rows)
    return terms, {
        "intra": ["intra_likelihood"], "inter": ["inter_likelihood"], "MSE": ["MSE"], "quan": ["quantization"],
        "contrast": ["contrastive_alignment"],
    }  # fmt: skip


def one_turn(case: Case, turn: str, method, bank, rename):
    """A turn of one stream whose input is named codes."""
    outputs = {turn: case.x["codes"]}
    write(method, outputs, bank, case)
    terms = method.loss_terms(outputs, bank, case.x["train_labels"], case.rows)
    return terms, {f"{turn} {ours}": theirs for ours, theirs in rename.items() if f"{turn} {ours}" in terms}


def two_banks(case, turn):
    other = "text" if turn == "image" else "image"
    return {turn: case.x["own_bank"].clone(), other: case.x["other_bank"].clone(), "binary": case.x["B"]}


def dcmh(case: Case, turn: str):
    o = case.option
    if turn == "paper_sums":
        return dcmh_paper(case)
    method = METHODS["DCMH"](WIDTH, case.k, gamma=o["gamma"], eta=o["eta"])
    names = {"inter": ["likelihood"], "quan": ["quantization"], "balance": ["balance"]}
    return one_turn(case, turn, method, two_banks(case, turn), names)


def dcmh_paper(case: Case):
    """The paper's sums over all rows: both turns, each with all rows as its batch; their likelihood is one."""
    o, x = case.option, case.x
    method = METHODS["DCMH"](WIDTH, x["F"].shape[1], gamma=o["gamma"], eta=o["eta"])
    bank = {"image": x["F"], "text": x["G"], "binary": x["B"]}
    n = len(x["F"])
    terms = {}
    for name in BOTH:
        for key, term in method.loss_terms({name: bank[name]}, bank, x["train_labels"], torch.arange(n)).items():
            kind = key.split(" ")[1]
            terms[kind] = terms.get(kind, 0) + term * n * n * (0.5 if kind == "inter" else 1)
    return terms, {"inter": ["likelihood"], "quan": ["quantization"], "balance": ["balance"]}


def mlsph(case: Case, turn: str):
    o = case.option
    method = METHODS["MLSPH"](WIDTH, case.k, intra=o["beta"], quan=o["gamma"], scale=o["scale"])
    names = {"inter": ["inter"], "intra": ["intra"], "quan": ["quantization"]}
    return one_turn(case, turn, method, two_banks(case, turn), names)


def mesdch(case: Case, turn: str):
    o, x = case.option, case.x
    method = METHODS["MESDCH"](
        WIDTH, case.k, x["train_labels"].shape[1], own=o["beta"], quan=o["gamma"], label_text=o["alpha"]
    )
    bank = {name: x[f"{name}_bank"].clone() for name in method.streams if f"{name}_bank" in x} | {"binary": x["B"]}
    names = {name: [f"{turn}_{name}"] for name in method.streams}
    return one_turn(case, turn, method, bank, names | {"own": [f"{turn}_{turn}"], "quan": ["quantization"]})


def scahn(case: Case, name: str):
    o, x = case.option, case.x
    turn = name.split("_")[0]
    k = x["fused1"].shape[1]
    assert o["alpha"] == k / 32
    method = METHODS["SCAHN"](WIDTH, k, (WIDTH, WIDTH), inter=1.0, intra=o["lambda"], halves=o["gamma"], quan=o["beta"])
    batches = [(x[f"stages{i}"].transpose(0, 1), torch.tanh(x[f"fused{i}"])) for i in (1, 2)]
    outputs = {turn: ScahnOutputs(*(torch.cat(parts) for parts in zip(*batches, strict=True)))}
    rows = torch.cat([x["rows1"], x["rows2"]]).long()
    bank = two_banks(case, turn)
    write(method, outputs, bank, SimpleNamespace(rows=rows))
    terms = method.loss_terms(outputs, bank, x["train_labels"], rows)
    names = {"inter": ["inter"], "intra": ["intra"], "halves": ["intra_pair"], "quan": ["quantization"]}
    return terms, {f"{turn} {ours}": theirs for ours, theirs in names.items()}


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


def cmcl(case: Case):
    o, x = case.option, case.x
    lengths, auxiliary = o["bits"].tolist(), int(o["auxiliary_bits"])
    method = METHODS["CMCL"](
        WIDTH, lengths[0], lengths=tuple(lengths), auxiliary=auxiliary, inter=o["hyper_cls_inter"],
        intra=o["hyper_cls_intra"], quan=o["hyper_quan"], recon=o["hyper_recon"], auxiliary_weight=o["mu"],
        contrast=o["hyper_info_nce"], concept_contrast=o["hyper_lambda"], temperature=o["tao_global"],
    )  # fmt: skip
    assert o["tao_global"] == o["tao_local"]
    suffixes = dict(zip(method.bits, (*lengths, auxiliary), strict=True))
    outputs = {
        name: CmclOutputs(
            x[f"res_{m}_cls"], x[f"trans_tokens_{m[0]}"].transpose(0, 1),
            {suffix: x[f"{m}_hash_{bits}"] for suffix, bits in suffixes.items()},
            {suffix: x[f"{m}_recon_{bits}"] for suffix, bits in suffixes.items() if bits != auxiliary},
        )
        for name, m in (("image", "img"), ("text", "txt"))
    }  # fmt: skip
    bank = {f"binary{suffix}": x[f"B_{bits}"].clone() for suffix, bits in suffixes.items()} | {
        f"{name}{suffix}": x[f"{m}_bank_{bits}"].clone()
        for name, m in (("image", "img"), ("text", "txt"))
        for suffix, bits in suffixes.items()
    }
    write(method, outputs, bank, case)
    terms = method.loss_terms(outputs, bank, x["train_labels"], case.rows)
    names = {"contrast": ["Global_infoNCE"], "concepts": ["Local_infoNCE"]}
    for suffix, bits in suffixes.items():
        names[f"intra{suffix}"] = [f"cls_intra_{letter}_-{bits}-bits" for letter in "it"]
        names[f"inter{suffix}"] = [f"cls_inter_likelihood_-{bits}-bits"]
        names[f"quan{suffix}"] = [f"quantization_-{bits}-bits"]
        if bits != auxiliary:
            names[f"recon{suffix}"] = [f"recon_{letter}_{bits}" for letter in "it"]
    return terms, names


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
    method.draw_triplets, method.gumbel = lambda distance: next(triplets), lambda count: next(gumbel)
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
        reconstruction=o["lambda1"], affinity=o["lambda2"],
    )  # fmt: skip
    method.prepare(TrainingSet(x["image_features"], x["text_features"], torch.zeros(n, 1)))
    assert torch.allclose(method.S, case.extra["S"], atol=1e-6)
    mixed = [case.extra[f"{name}_mixed"] for name in BOTH]
    for ours, theirs in zip(method.mixed, mixed, strict=True):
        assert torch.allclose(ours[case.rows], theirs, atol=1e-5)
    codes = GraphCodes(x["HI"], x["HT"], x["H"], x["image_decoded"], x["text_decoded"])
    terms = method.graph_terms(codes, mixed, method.S[case.rows][:, case.rows])
    return terms, {
        "reconstruction": ["reconstruction"], "graph affinity": ["affinity"], "graph quan": ["quantization"],
    }  # fmt: skip
