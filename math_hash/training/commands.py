"""What `main.py`, `math-hash train` and `math-hash evaluate` do: train or open a model, evaluate it, and report."""

import json
import os
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from math_hash.config import Config
from math_hash.data.figures import draw_contact_sheet
from math_hash.evaluation import floor_warning
from math_hash.files import read_json, sha256, write_text
from math_hash.training import loop
from math_hash.training.batch_size import largest_batch_size
from math_hash.training.evaluate import evaluate, export_codes
from math_hash.training.feature_cache import with_cache
from math_hash.training.image_cache import with_image_cache
from math_hash.training.plots import plot_history
from math_hash.training.run_folder import RESULTS, new_folder_name
from math_hash.training.setup import Data, open_data, open_trained, with_usable_method


def run(config: Config) -> None:
    """Train and evaluate with `is_train`, else evaluate `pretrained`; prints the table, and writes what docs/ names.

    Raises:
        InputError: anything about the options, the data, the weights or the disk is not as it must be.
    """
    accelerator = loop.make_accelerator(config)
    if config.is_train:
        _train(config, accelerator)
    else:
        _evaluate(config, accelerator)


def _train(config: Config, accelerator: Accelerator) -> None:
    data = open_data(config, progress=accelerator.is_main_process and os.isatty(2))
    wanted, config = config.method, with_usable_method(config, data)
    if config.method != wanted and accelerator.is_main_process:
        print(f"note: {config.dataset} has no labels, which {wanted} needs; training {config.method} instead")
    if not config.batch_size and not config.resume:
        config = replace(config, batch_size=largest_batch_size(config, accelerator, data))
    run = loop.train(config, accelerator, data)
    selection = {"selected_on": config.select_on, "selected_epoch": loop.best_epoch(run)}
    _report(replace(config, pretrained=str(run.path)), accelerator, data, run.path, selection)
    if accelerator.is_main_process:
        if history := run.read_metrics():
            plot_history(history, run.path / "plots")
            print(f"plots        {run.path}/plots")
        print(f"model        {run.path}    math_hash.load_model({str(run.path)!r})")


def _evaluate(config: Config, accelerator: Accelerator) -> None:
    data = open_data(config, progress=accelerator.is_main_process and os.isatty(2))
    config = with_usable_method(config, data)
    folder = Path(broadcast_object_list([new_folder_name(config)])[0])
    earlier = Path(config.pretrained) / RESULTS
    selection = {"selected_on": "unknown", "selected_epoch": None}
    if earlier.is_file():
        found = read_json(earlier)
        selection = {name: found.get(name) for name in selection}
    _report(config, accelerator, data, folder, selection)


def _report(config: Config, accelerator: Accelerator, data: Data, folder: Path, selection: dict) -> None:
    """Evaluate `config.pretrained`; print the table; write results.json, the .mat export and the contact sheet."""
    model = open_trained(config).to(accelerator.device)
    if config.bits:
        model.keep_bits(config.bits)
    data = with_image_cache(config, model, with_cache(config, model, data, accelerator), accelerator)
    show = accelerator.is_main_process and os.isatty(2)
    codes, results = evaluate(
        model,
        data.pairs(model),
        data.split,
        accelerator,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        ties=config.ties,
        directions=data.directions,
        progress=show,
    )
    if not accelerator.is_main_process:
        return
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
        **results,
    }
    export = folder / "PR_curve" / f"{model.method}-{config.dataset}-{model.k_bits}.mat"
    export_codes(export, codes, data.folder.labels, data.split)
    write_text(folder / RESULTS, json.dumps(results, indent=2) + "\n")
    if not config.features:
        draw_contact_sheet(folder / "plots" / "retrieval.png", data.folder, data.split, codes)
    print(_table(results))
    for direction, value in results["mAP"].items():
        if line := floor_warning(value, results["floor"]):
            print(f"warning: {direction}: {line}")
    print(f"results      {folder / RESULTS}\ncodes        {export}")


def _table(results: dict) -> str:
    def row(name: str, values: dict | None, floor: float | None, size: int) -> str:
        if not values:
            return ""
        cells = "".join(f"{value:>14.4f}" for value in values.values())
        return f"{name:<30}{cells}{floor:>14.4f}{size:>12}\n"

    head = "".join(f"{direction:>14}" for direction in results["mAP"])
    return (
        f"\nmAP of {results['method']}, {results['k_bits']} bits, {results['dataset']}, {results['queries']} queries "
        f"(epoch chosen on {results['selected_on']})\n{'database':<30}{head}{'random codes':>14}{'rows':>12}\n"
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
    )
