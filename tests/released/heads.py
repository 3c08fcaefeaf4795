"""The released heads as our modules, with the stored weights: a function per method, returning output name -> ours."""

from dataclasses import replace

import torch

from math_hash.encoders import Features
from math_hash.methods import METHODS
from math_hash.methods.cirh import GraphNetwork
from math_hash.methods.dpsih import SetHead
from math_hash.methods.layers import fuse_with_batch
from math_hash.methods.multi_scale import LABEL_POOLS, TEXT_POOLS, MultiScaleHead
from math_hash.methods.scahn import StageHead, released_bit_scores
from math_hash.models.released import _READERS
from released.fixtures import WIDTH

SIDES = {"image": ("img", "img_cls"), "text": ("txt", "txt_eos")}


def load(module, state, names):
    """Put released weights into a module: our prefix -> theirs."""
    ours = {
        f"{mine}{key[len(theirs) :]}": value
        for mine, theirs in names.items()
        for key, value in state.items()
        if key.startswith(theirs)
    }
    wrong = module.load_state_dict(ours, strict=False)
    assert not wrong.unexpected_keys
    assert all("running" in name or "batches" in name for name in wrong.missing_keys), wrong.missing_keys
    return module.eval()


def released(state, mark):
    """A head that a released checkpoint would give."""
    head = _READERS[mark](state)
    width = {"lct_i.hashing.fc_list.0.weight": WIDTH}.get(mark, 32)
    method = METHODS[head.method](width, head.k_bits, **head.options)
    method.load_state_dict(head.state, strict=False)
    return method.eval()


def token_features(x, side, padded):
    m, pooled = SIDES[side]
    tokens = x[f"{m}_tokens"].transpose(0, 1)
    padding = x["key_padding_mask"].bool() if padded and side == "text" else None
    return Features(tokens, x[pooled], padding)


def transformer(state):
    if "gcl_t.common_concept_embedding.weight" not in state:  # the same tensors as gcl_i
        state = state | {k.replace("gcl_i", "gcl_t"): v for k, v in state.items() if k.startswith("gcl_i")}
    return released(state, "lct_i.hashing.fc_list.0.weight")


def mith(state, x, option):
    method = transformer(state)
    ours = {}
    for side, (m, _) in SIDES.items():
        features = token_features(x, side, True)
        out = method._stream(side, features if features.padding is None else HidesPadding(features))
        unit = torch.nn.functional.normalize(out.refined, dim=-1)
        ours |= {f"{m}_cls_hash": out.h_global, f"res_{m}_cls": unit, f"{m}_tokens_hash": out.h_local}
        ours |= {f"trans_tokens_{m[0]}": out.concepts.transpose(0, 1), f"{m}_code": out.code.sign()}
    return ours


def math(state, x, option):
    method = transformer(state)
    label = Features(x["lab_tokens"].transpose(0, 1), x["lab_eos"])
    image, text = (replace(token_features(x, side, False), batch=x[pooled]) for side, (_, pooled) in SIDES.items())
    fused = fuse_with_batch(label, image, text)
    ours = {"lab_fused": fused}
    for name, m, features, pooled in (
        ("image", "img", image, image.pooled), ("text", "txt", text, text.pooled), ("label", "lab", label, fused),
    ):  # fmt: skip
        out = method._stream(name, features, pooled)
        unit = torch.nn.functional.normalize(out.refined, dim=-1)
        ours |= {f"{m}_cls_hash": out.h_global, f"res_{m}_cls": unit, f"{m}_tokens_hash": out.h_local}
        if m != "lab":
            ours[f"{m}_code"] = out.code.sign()
    return ours


def dchmt(state, x, option):
    method = released(state, "image_hash.hash_list.0.weight")
    out = method.outputs({side: Features(None, x[side]) for side in SIDES}, None)
    codes = method.bank_codes(out)
    return {side: out[side] for side in SIDES} | {f"{side}_code": codes[side].sign() for side in SIDES}


def dsph(state, x, option):
    method = released(state, "image_hash.fc.weight")
    return {"image": method.hash_image(Features(None, x["image"])), "text": method.hash_text(Features(None, x["text"]))}


def twdh(state, x, option):
    long, short = option["long_bits"], option["short_bits"]
    method = METHODS["TwDH"](32, short, 7, long_bits=long, heads=option["num_heads"])
    method.map = x["trans"]
    names = {"attention.": "atten.", "norm.": "norm.", "linear.": "fc2."}
    ours = {}
    for side, m in (("image", "img"), ("text", "txt")):
        load(method.heads[side], state, {mine: f"{m}_hash.{theirs}" for mine, theirs in names.items()})
        probabilities = method.heads[side](x[side])
        ours |= {f"{side}_long": probabilities, f"{side}_short": method.shorten(probabilities)}
        ours |= {f"{side}_{kind}_code": method._code(ours[f"{side}_{kind}"]).sign() for kind in ("long", "short")}
    return ours


def dimch(state, x, option):
    method = METHODS["DIMCH"](32, 16, set_size=option["set_size"], length=(10, 8))
    names = {"tokens.": "token_layer.", "layers.": "hash_layer."}
    ours = {}
    for side, m in (("image", "img"), ("text", "txt")):
        load(method.heads[side], state, {mine: f"{m}_token_hash.{theirs}" for mine, theirs in names.items()})
        out = method._outputs(side, Features(x[f"{side}_tokens"], None))
        ours |= {f"{side}_set": out.tokens, side: out.code}
    return ours


def dpsih(state, x, option):
    ours = {}
    for side in SIDES:
        tokens = x[f"{side}_tokens"]
        head = SetHead(32, 16, option["num_embeds"], 0.2, token_width=tokens.shape[2])
        block = f"DSIE_{side[0]}"
        load(head, state, {
            "code.0.": f"{side}_hash.fc.", "attention.0.": f"{block}.attention.w_1.",
            "attention.2.": f"{block}.attention.w_2.", "residual.": f"{block}.fc.", "norm.": f"{block}.layer_norm.",
        })  # fmt: skip
        out = head(Features(tokens, x[f"{side}_pooled"]))
        ours |= {f"{side}_embeds": out.codes, f"{side}_residual": out.residuals}
        ours[f"{side}_attention"] = head.attention(tokens).softmax(dim=1)
    return ours


def ucch(state, x, option):
    method = METHODS["UCCH"](32, 16, widths=tuple(option["widths"].tolist()))
    load(method.heads["image"], state, {"": "fc."})
    return {"image": method.hash_image(Features(None, x["image"]))}


def cmcl(state, x, option):
    bits = option["bits"].tolist()
    method = METHODS["CMCL"](
        WIDTH, bits[0], lengths=tuple(bits), auxiliary=option["auxiliary_bits"], concepts=option["concept_num"],
        res_mlp_layers=option["res_mlp_layers"], transformer_layers=option["transformer_layers"],
    )  # fmt: skip
    names = {"concepts": "concept_embedding", "query_norm.": "ln_q."}
    for n in range(option["res_mlp_layers"]):
        names |= {
            f"mlp.blocks.{n}.{ours}.": f"resmlp_i.{theirs}."
            for ours, theirs in (("0", f"lns.{n}"), ("1", f"mlps.{n}.0"), ("4", f"mlps.{n}.3"))
        }
    for n in range(3):
        names[f"encode.{n}."] = f"hash_encoders.{n}.fc."
    for n in range(2):
        names |= {
            f"decode.{n}.0.": f"hash_decoders.{n}.mlp.mlp.linear_0.",
            f"decode.{n}.2.": f"hash_decoders.{n}.mlp.mlp.linear_final.",
        }
    for side, attention, letter in (("image", "patch", "i"), ("text", "word", "t")):
        names |= {
            f"attention.{side}.attention.": f"{attention}_local_attn_layer.",
            f"attention.{side}.norm.": f"ln_kv{letter}.",
            f"attention.{side}.transformer.": f"TE{letter}.",
        }
    load(method, state, names)
    ours = {}
    for side, (m, _) in SIDES.items():
        out = method._outputs(side, token_features(x, side, False))
        if side == "text":
            out = method._outputs(side, HidesPadding(token_features(x, side, True)))
        ours |= {f"trans_tokens_{m[0]}": out.concepts.transpose(0, 1), f"res_{m}_cls": out.refined}
        for (suffix, code), k in zip(out.codes.items(), (*bits, option["auxiliary_bits"]), strict=True):
            ours[f"{m}_cls_hash_{k}"] = code
            if suffix in out.decoded:
                ours[f"{m}_cls_hash_recon_{k}"] = out.decoded[suffix]
    return ours


class HidesPadding:
    """Features whose content is all that is not padding: the stored masks already hide the end marker, if any."""

    def __init__(self, features):
        self.pooled, self.tokens, self.padding = features.pooled, features.tokens, features.padding

    def content_mask(self):
        return ~self.padding


def cirh(state, x, option):
    network = GraphNetwork((x["image"].shape[1], x["text"].shape[1]), 16, option["width"])
    names = {
        "encoders.0.": "encoderIMG.", "encoders.1.": "encoderTXT.", "decoders.0.": "decoderIMG.",
        "decoders.1.": "decoderTXT.",
    }  # fmt: skip
    for n, letter in enumerate("ITJ"):
        names |= {f"convolutions.{n}.": f"gcn{letter}1.", f"norms.{n}.": f"BN{letter}1."}
    for n, (layer, norm) in enumerate((("img_fc", "HIBN"), ("txt_fc", "HTBN"), ("HJ", "HJBN"), ("HC", "HBN"))):
        names |= {f"hashes.{n}.0.": f"{layer}.", f"hashes.{n}.1.": f"{norm}."}
    out = load(network, state, names)(x["image"], x["text"], x["affinity"])
    return {
        "HI": out.image,
        "HT": out.text,
        "H": out.joint,
        "B": out.joint.sign(),
        "image_decoded": out.image_decoded,
        "text_decoded": out.text_decoded,
    }


def scahn(state, x, option):
    head = StageHead(8, 16, 0)
    head.attention.data = state["weight"]
    stages = x["stages"].transpose(0, 1)
    fused = (head.attention * stages).sum(dim=1)
    return {
        "fused": fused,
        "code": head.fuse(stages),
        "bit_score": released_bit_scores(state["weight"], x["other_weight"]),
    }


def multi_scale(state, x, option):
    vectors = next(iter(x.values()))[:, 0, :, 0]
    pools = TEXT_POOLS if "tags" in x else LABEL_POOLS
    head = MultiScaleHead(vectors.shape[1], 16, pools, tuple(option["widths"].tolist()))
    flat = {k: v.flatten(1) if v.ndim == 4 else v for k, v in state.items() if k.startswith("feature.")}
    load_scales = {f"interp_block{n + 1}.1." for n in range(5)}
    assert all(f"{name}weight" in state for name in load_scales)
    head.scales.data = torch.stack([state[f"interp_block{n + 1}.1.weight"].flatten()[0] for n in range(5)])
    head.shifts.data = torch.stack([state[f"interp_block{n + 1}.1.bias"].flatten()[0] for n in range(5)])
    wrong = head.layers.load_state_dict({k.removeprefix("feature."): v for k, v in flat.items()})
    assert not wrong.missing_keys
    return {"code": head.eval()(vectors)}
