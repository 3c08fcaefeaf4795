"""The output of an evaluation: results.json, the codes, the contact sheet, and a table for the terminal."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from math_hash.config import Config
from math_hash.data import POOLED
from math_hash.data.figures import draw_contact_sheet
from math_hash.evaluation import chance_level_warning, distance_threshold
from math_hash.evaluation.exports import DIRECTIONS
from math_hash.files import sha256, write_text
from math_hash.methods import short_name
from math_hash.models.model import HashModel
from math_hash.models.precision import choose_precision
from math_hash.models.training_distribution import TrainingDistribution, compared_vectors, write_distributions
from math_hash.training.evaluate import RowCodes, encoder_vectors, evaluate, export_codes
from math_hash.training.feature_cache import with_cache
from math_hash.training.image_cache import with_image_cache
from math_hash.training.run_folder import RESULTS, new_folder
from math_hash.training.runtime import same_on_all_processes
from math_hash.training.setup import Data, open_trained
from math_hash.training.state import shows_progress

FALSE_POSITIVE_RATE = 0.01  # of the distance thresholds
UNLIKE_RATE = 0.01  # share of held-out rows that count as unlike the training rows
_TRAINING_ROWS = 2048  # enough for a covariance; they are encoded once more


def write_results(
    config: Config, accelerator: Accelerator, data: Data, folder: Path | None, selection: dict[str, Any]
) -> Path:
    """Evaluate `config.pretrained`; write results.json, the .mat export and the contact sheet into `folder`.

    Args:
        folder: of the run that trained the model; None: a new one is made, once the results are there.
        selection: how the epoch was chosen, `selected_on` and `selected_epoch`.

    Returns:
        The folder, on every process.
    """
    model = open_trained(config)
    model.to(accelerator.device)
    if config.bits:
        model = model.with_bits(config.bits)
    data = with_image_cache(config, model, with_cache(config, model, data, accelerator), accelerator)
    full, model = model, model.in_precision(choose_precision(config.precision, accelerator.device))
    codes, measured = evaluate(
        model,
        data.pairs(model),
        data.split,
        accelerator,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        ties=config.ties,
        directions=data.directions,
        unseen=data.unseen,
        progress=shows_progress(accelerator),
    )
    results = {
        "method": model.method,
        "dataset": config.dataset,
        "protocol": data.folder.protocol,
        "k_bits": model.k_bits,
        "split_seed": config.split_seed,
        **selection,
        "model": config.pretrained,
        "head_parameters": sum(weights.numel() for weights in model.head.parameters()),
        "label_file_sha256": sha256(data.folder.path / config.label_file),
        "relevance": "own pair" if data.pairs_only else "shared label",
        "precision": model.precision,
        "rejected_pictures": len(data.rejected),
        "unseen_labels": data.unseen_names,
        "thresholds": distance_thresholds(codes, data),
        **measured,
    }
    if folder and model.encoder.takes_pictures:
        distributions = training_distributions(config, accelerator, data, full)
        if accelerator.is_main_process:
            write_distributions(folder, distributions)
    if folder is None:
        folder = Path(same_on_all_processes(str(new_folder(config)) if accelerator.is_main_process else ""))
    if accelerator.is_main_process:
        export_codes(folder / export_name(results), codes, data.folder.labels, data.split)
        write_text(folder / RESULTS, json.dumps(results, indent=2) + "\n")
        if not config.features:
            draw_contact_sheet(folder / "plots" / "retrieval.png", data.folder, data.split, codes)
    return folder


def distance_thresholds(codes: RowCodes, data: Data) -> dict[str, float | int | None]:
    """`distance_threshold` for each direction, between held-out rows, and the false-positive rate."""
    rows = held_out_rows(data)
    labels = data.folder.labels[rows]
    thresholds: dict[str, float | int | None] = {"false_positive_rate": FALSE_POSITIVE_RATE}
    for direction, (asked, given) in DIRECTIONS.items():
        thresholds[direction] = distance_threshold(
            codes.of(asked, rows), codes.of(given, rows), labels, labels, FALSE_POSITIVE_RATE
        )
    return thresholds


def held_out_rows(data: Data) -> np.ndarray:
    """The validation rows, as far as they are evaluated; the queries, if there are none."""
    return data.split.val if len(data.split.val) and not data.pairs_only else data.split.query


def training_distributions(
    config: Config, accelerator: Accelerator, data: Data, model: HashModel
) -> dict[str, TrainingDistribution]:
    """The distributions of the training rows' vectors, by modality, on every process."""
    trained, held_out = data.split.train[:_TRAINING_ROWS], held_out_rows(data)
    needs = replace(POOLED, stages=model.encoder.stage_widths is not None)
    vectors = encoder_vectors(
        model.encoder,
        data.pairs_for(model.encoder, model.max_words, needs),
        np.concatenate([trained, held_out]),
        accelerator,
        vectors_of=compared_vectors,
        needs=needs,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        progress=shows_progress(accelerator),
    )
    return {
        modality: TrainingDistribution.fit(values[: len(trained)], values[len(trained) :], UNLIKE_RATE)
        for modality, values in vectors.items()
    }


def export_name(results: dict[str, Any]) -> Path:
    """The path of the exported codes inside a run's folder."""
    return Path("PR_curve") / f"{short_name(results['method'])}-{results['dataset']}-{results['k_bits']}.mat"


def results_text(results: dict[str, Any]) -> str:
    """The table of mAP, and one warning line for each direction that is not above chance level."""
    lines = [_table(results)]
    for direction, value in results["mAP"].items():
        if line := chance_level_warning(value, results["floor"]):
            lines.append(f"warning: {direction}: {line}")
    return "\n".join(lines)


def _table(results: dict[str, Any]) -> str:
    def row(name: str, values: dict[str, float] | None, chance: float | None, size: int) -> str:
        if not values:
            return ""
        cells = "".join(f"{value:>14.4f}" for value in values.values())
        return f"{name:<30}{cells}{chance:>14.4f}{size:>12}\n"

    head = "".join(f"{direction:>14}" for direction in results["mAP"])
    return (
        f"\nmAP of {short_name(results['method'])}, {results['k_bits']} bits, {results['dataset']}, "
        f"{results['queries']} queries (epoch chosen on {results['selected_on']})\n"
        f"{'database':<30}{head}{'chance level':>14}{'rows':>12}\n"
        + row(
            "the queries' own pairs" if results["relevance"] == "own pair" else "all rows but the queries",
            results["mAP"],
            results["floor"],
            results["database"],
        )
        + row(
            "without training rows",
            results["mAP_without_training_rows"],
            results["floor_without_training_rows"],
            results["database_without_training_rows"],
        )
        + row(
            "rows of unseen labels",
            results.get("mAP_unseen"),
            results.get("floor_unseen"),
            results.get("database_unseen", 0),
        )
        + _own_pair_lines(results["own_pair_recall"])
    )


def _own_pair_lines(recalls: dict[str, dict[str, float]]) -> str:
    """Recall of the queries' own partners, one line per direction."""
    return "".join(
        f"own pair, {direction}: " + ", ".join(f"{name} {value:.4f}" for name, value in recall.items()) + "\n"
        for direction, recall in recalls.items()
    )
