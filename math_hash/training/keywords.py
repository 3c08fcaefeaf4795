"""The keywords of `math_hash.train` and `math_hash.evaluate`, for type checkers and editors."""

from pathlib import Path
from typing import Any, TypedDict

from math_hash.methods import Method


class Keywords(TypedDict, total=False):
    """The fields of `math_hash.config.Config`, explained there, and `config`: a YAML file with some of them."""

    config: str | Path
    is_train: bool
    dataset: str
    method: str | type[Method]
    method_options: dict[str, Any]
    preset: str
    joint_update: bool
    k_bits: int
    pretrained: str
    bits: int
    resume: str
    device: str
    seed: int
    dataset_root: str
    image_root: str
    index_file: str
    caption_file: str
    label_file: str
    label_t_file: str
    features: str
    query_num: int
    train_num: int
    val_num: int
    split_seed: int
    unseen_labels: int
    draw_captions: bool
    max_words: int
    resolution: int
    num_workers: int
    on_bad_image: str
    clip_path: str
    encoder: str | None
    encoder_weights: str | None
    freeze_encoder: bool
    cache_dir: str
    image_cache: float
    epochs: int
    batch_size: int
    memory_share: float
    memory_overhead: float
    gradient_accumulation: int
    lr: float
    clip_lr: float
    weight_decay: float
    warmup_proportion: float
    compile: bool
    precision: str
    gradient_checkpointing: bool
    valid_freq: int
    valid_rows: int
    select_on: str
    ties: str
    tracker: list[str]
    result_name: str
    save_dir: str
