"""Objectives on code banks, on the inputs of a released case: a function per method, as `adapters` describes."""

import torch

from math_hash.methods import METHODS
from math_hash.methods.cmcl import Outputs as CmclOutputs
from math_hash.methods.math import Stream
from math_hash.methods.mith import Outputs as MithOutputs
from math_hash.methods.scahn import Outputs as ScahnOutputs
from released.adapters import BOTH, write
from released.fixtures import WIDTH, Case


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
    released = {
        f"{name}{ours}": f"{m}_buffer_{theirs}"
        for name, m in (("image", "img"), ("text", "txt"))
        for ours, theirs in (("", "cls"), (" tokens", "tokens"))
    }
    bank = {ours: x[theirs].clone() for ours, theirs in released.items()}
    write(method, outputs, bank, case.rows, {ours: case.after[theirs] for ours, theirs in released.items()})
    terms = method.loss_terms(outputs, bank, x["train_labels"], case.rows)
    return terms, {
        "intra": ["tokens_intra_likelihood"], "inter": ["cls_inter_likelihood"], "quan": ["quantization"],
        "contrast": ["global_info_nce"], "concepts": ["concept_info_nce"], "distill": ["distillation"],
    }  # fmt: skip


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
    write(method, outputs, bank, case.rows, {name: case.after[f"{m}_buffer_cls"] for name, m in sides.items()})
    terms = method.loss_terms(outputs, bank, x["train_labels"], case.rows)
    return terms, {
        "intra": ["intra_likelihood"], "inter": ["inter_likelihood"], "MSE": ["MSE"], "quan": ["quantization"],
        "contrast": ["contrastive_alignment"],
    }  # fmt: skip


def one_turn(case: Case, turn: str, method, bank, rename, own_bank="own_bank"):
    """A turn of one stream whose input is named codes."""
    outputs = {turn: case.x["codes"]}
    write(method, outputs, bank, case.rows, {turn: case.after[own_bank]})
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
    names |= {"own": [f"{turn}_{turn}"], "quan": ["quantization"]}
    return one_turn(case, turn, method, bank, names, f"{turn}_bank")


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
    write(method, outputs, bank, rows, {turn: case.after["own_bank"]})
    terms = method.loss_terms(outputs, bank, x["train_labels"], rows)
    names = {"inter": ["inter"], "intra": ["intra"], "halves": ["intra_pair"], "quan": ["quantization"]}
    return terms, {f"{turn} {ours}": theirs for ours, theirs in names.items()}


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
    released = {
        f"{name}{suffix}": f"{m}_bank_{bits}"
        for name, m in (("image", "img"), ("text", "txt"))
        for suffix, bits in suffixes.items()
    }
    binary = {f"binary{suffix}": f"B_{bits}" for suffix, bits in suffixes.items()}
    bank = {ours: x[theirs].clone() for ours, theirs in (released | binary).items()}
    write(method, outputs, bank, case.rows, {ours: case.after[theirs] for ours, theirs in released.items()})
    terms = method.loss_terms(outputs, bank, x["train_labels"], case.rows)
    method.on_epoch(2, 2, bank)
    assert all((bank[ours] == case.after[theirs]).all() for ours, theirs in binary.items())
    names = {"contrast": ["Global_infoNCE"], "concepts": ["Local_infoNCE"]}
    for suffix, bits in suffixes.items():
        names[f"intra{suffix}"] = [f"cls_intra_{letter}_-{bits}-bits" for letter in "it"]
        names[f"inter{suffix}"] = [f"cls_inter_likelihood_-{bits}-bits"]
        names[f"quan{suffix}"] = [f"quantization_-{bits}-bits"]
        if bits != auxiliary:
            names[f"recon{suffix}"] = [f"recon_{letter}_{bits}" for letter in "it"]
    return terms, names
