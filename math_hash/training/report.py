"""The output of an evaluation: results.json, the codes, the contact sheet, and a table for the terminal."""

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from math_hash.config import Config
from math_hash.data.figures import draw_contact_sheet
from math_hash.evaluation import chance_level_warning
from math_hash.files import sha256, write_text
from math_hash.methods import short_name
from math_hash.training.evaluate import evaluate, export_codes
from math_hash.training.feature_cache import with_cache
from math_hash.training.image_cache import with_image_cache
from math_hash.training.run_folder import RESULTS
from math_hash.training.setup import Data, open_trained
from math_hash.training.state import shows_progress


def write_results(
    config: Config, accelerator: Accelerator, data: Data, folder: Path, selection: dict[str, Any]
) -> dict[str, Any]:
    """Evaluate `config.pretrained`; write results.json, the .mat export and the contact sheet into `folder`.

    Args:
        selection: how the epoch was chosen, `selected_on` and `selected_epoch`.

    Returns:
        The results, on every process.
    """
    model = open_trained(config)
    model.to(accelerator.device)
    if config.bits:
        model = model.with_bits(config.bits)
    data = with_image_cache(config, model, with_cache(config, model, data, accelerator), accelerator)
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
        "rejected_pictures": len(data.rejected),
        "unseen_labels": data.unseen_names,
        **measured,
    }
    if accelerator.is_main_process:
        export_codes(folder / export_name(results), codes, data.folder.labels, data.split)
        write_text(folder / RESULTS, json.dumps(results, indent=2) + "\n")
        if not config.features:
            draw_contact_sheet(folder / "plots" / "retrieval.png", data.folder, data.split, codes)
    return results


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
