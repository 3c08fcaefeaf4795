"""The optimizers of a run: BertAdam, and those that a method chooses for its own parameters."""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from math_hash.config import Config
from math_hash.models.model import HashModel
from math_hash.training.bert_adam import BertAdam


def make_optimizers(model: HashModel, config: Config, total_steps: int) -> list[Optimizer]:
    """BertAdam, followed by the method's own optimizers.

    BertAdam's first group has the learning rate `lr`, the second, if the encoder is trained, `clip_lr`. A method's own
    parameter groups come after these two, or have optimizers of their own.
    """
    own = model.head.parameter_groups()
    in_own = {id(p) for group in own for p in group["params"]}
    pretrained = [p for p in model.encoder.parameter_groups().pretrained if p.requires_grad]
    apart = in_own | {id(p) for p in pretrained}
    groups: list[dict[str, Any]] = [{"params": _learning(model, apart), "lr": config.lr}]
    if pretrained:
        groups.append({"params": pretrained, "lr": config.clip_lr})
    others: list[Optimizer] = []
    for group in own:
        settings = {name: value for name, value in group.items() if name not in ("params", "optimizer")}
        if "optimizer" in group:
            others.append(group["optimizer"](group["params"], **settings))
        else:
            groups.append({"params": group["params"], **settings})
    main = BertAdam(
        groups,
        lr=config.lr,
        total_steps=total_steps,
        warmup=config.warmup_proportion,
        weight_decay=config.weight_decay,
    )
    return [main, *others]


def _learning(model: nn.Module, apart: set[int]) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
