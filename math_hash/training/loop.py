"""Training, from top to bottom."""

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from math_hash.config import Config
from math_hash.data import load_batches
from math_hash.errors import InputError
from math_hash.models.bit_order import bit_significance_order
from math_hash.models.model import HashModel
from math_hash.training.distributed import share_of
from math_hash.training.evaluate import encode_rows, mean_average_precisions
from math_hash.training.feature_cache import with_cache
from math_hash.training.image_cache import with_image_cache
from math_hash.training.memory import keep_freed_memory, memory_errors
from math_hash.training.run_folder import Run
from math_hash.training.runtime import same_on_all_processes, seed_everything
from math_hash.training.setup import Data, open_model
from math_hash.training.state import Training, prepare_training, shows_progress, training_vectors
from math_hash.training.tracking import Log, require_trackers


def train(config: Config, accelerator: Accelerator, data: Data) -> Run:
    """Train, keep the best model, and save the full state after each epoch.

    All randomness in an epoch depends only on the seed and the epoch number, so a run that was killed and resumed ends
    with the same weights as an uninterrupted one.

    Returns:
        The run, in whose folder `model.safetensors` is the best model.

    Raises:
        InputError: something is wrong with the options, the data or the disk.
    """
    require_trackers(config)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    seed_everything(config.seed, 0)
    model = open_model(config, data)
    data = with_image_cache(config, model, with_cache(config, model, data, accelerator), accelerator)
    if not model.head.trained_by_gradient:
        return _fit(config, accelerator, data, model)
    training = prepare_training(config, accelerator, data, model)
    done, best, history = training.done, training.best, training.history
    run = _run(config, accelerator, data)
    log = Log(accelerator, config, run, training.steps_per_epoch, done)
    _describe(log, config, data, model, run, done)
    for epoch in range(done + 1, config.epochs + 1):
        record = _train_epoch(training, epoch)
        if epoch % config.valid_freq == 0 or epoch == config.epochs:
            record["mAP"] = _validate(training)
            record["score"] = (record["mAP"]["image->text"] + record["mAP"]["text->image"]) / 2
            if record["score"] > best["score"]:
                best = {"score": record["score"], "epoch": epoch}
                banks = training.step_module.bank.codes
                order = bit_significance_order(banks["image"], banks["text"], training.step_module.bank.labels)
                model.bit_order.copy_(order)
                if accelerator.is_main_process:
                    model.save(run.path)
        if accelerator.is_main_process:
            history.append(record)
            run.write_metrics(history)
            run.save_checkpoint(training.state(epoch, best))
        log.epoch(record)
        accelerator.wait_for_everyone()
    log.line("best epoch %s on %s: %.4f", best["epoch"], config.select_on, best["score"])
    log.close()
    return run


def _run(config: Config, accelerator: Accelerator, data: Data) -> Run:
    """The run to resume, or a new one, which the main process makes."""
    if config.resume:
        return Run(config.resume)
    path = str(Run.create(config, data.folder.protocol).path) if accelerator.is_main_process else ""
    return Run(same_on_all_processes(path))


def _fit(config: Config, accelerator: Accelerator, data: Data, model: HashModel) -> Run:
    """Fit a method that is not trained by gradient to the training rows' vectors."""
    run = _run(config, accelerator, data)
    log = Log(accelerator, replace(config, tracker=[]), run, 1, 0)
    _describe(log, config, data, model, run, 0)
    model.to(accelerator.device)
    model.head.fit(*training_vectors(config, accelerator, data, model), config.seed)
    if accelerator.is_main_process:
        model.save(run.path)
    accelerator.wait_for_everyone()
    return run


def _train_epoch(training: Training, epoch: int) -> dict[str, Any]:
    """Pass over the training rows once per turn; returns the epoch's record for `metrics.jsonl`."""
    config, accelerator = training.config, training.accelerator
    start = time.perf_counter()
    seed_everything(config.seed, epoch, accelerator.process_index)
    training.model.head.on_epoch(epoch, config.epochs, training.step_module.bank.codes)
    losses: dict[str, float] = {}
    with memory_errors(config):
        for turn in training.turns:
            of_turn, rates = _pass(training, epoch, turn)
            losses |= of_turn
    seconds = round(time.perf_counter() - start, 3)
    return {
        "epoch": epoch,
        "loss": sum(losses.values()),
        "losses": losses,
        "lr": rates[0],
        "clip_lr": rates[1],
        "training_seconds": seconds,
        "samples_per_second": round(len(training.data.split.train) / seconds, 1),
    }


def _pass(training: Training, epoch: int, turn: tuple[str, ...]) -> tuple[dict[str, float], tuple[float, float | None]]:
    """The mean of each loss term over one pass, and the last learning rates of heads and encoder."""
    config, accelerator, step = training.config, training.accelerator, training.step
    training.model.train()
    rows = training.data.split.train
    order = np.random.default_rng([config.seed, epoch]).permutation(len(rows))
    batches = [order[at : at + config.batch_size] for at in range(0, len(order), config.batch_size)]
    places = torch.from_numpy(order).to(accelerator.device).split(config.batch_size)  # copied once, not in each step
    shares = [share_of(rows[batch], accelerator.process_index, accelerator.num_processes) for batch in batches]
    draw = (config.seed, epoch) if config.draw_captions else None
    loaded = load_batches(training.dataset.for_training(turn, draw), shares, config.num_workers, accelerator.device)
    totals: dict[str, Tensor] = {}
    rates = training.rates
    show = shows_progress(accelerator)
    bar = tqdm(loaded, total=len(batches), desc=f"epoch {epoch}/{config.epochs}", unit="step", disable=not show)
    for number, (inputs, positions) in enumerate(zip(bar, places, strict=True), start=1):
        update = number % config.gradient_accumulation == 0 or number == len(batches)
        with nullcontext() if update else accelerator.no_sync(step):
            terms = step(inputs, positions, turn)
            accelerator.backward(sum(terms.values()) / config.gradient_accumulation)
        if update:
            rates = training.rates
            for optimizer in training.optimizers:
                optimizer.step()
                optimizer.zero_grad()
        for name, term in terms.items():  # summed on the device, so that no step waits for a transfer
            totals[name] = totals.get(name, 0) + term.detach() * len(positions)
    losses = {name: float(total) / len(order) for name, total in totals.items()}
    if not all(math.isfinite(loss) for loss in losses.values()):
        listing = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
        raise InputError(f"epoch {epoch}: the loss is not finite ({listing}); lower `lr`, or use `precision` no")
    return losses, rates


def _validate(training: Training) -> dict[str, float]:
    config, data = training.config, training.data
    query = data.split.val if config.select_on == "val" else data.split.query
    database = query if data.pairs_only else data.split.database[~np.isin(data.split.database, query)]
    if 0 < config.valid_rows < len(database) and not data.pairs_only:
        drawn = np.random.default_rng([config.seed, config.valid_rows]).permutation(len(database))
        database = database[np.sort(drawn[: config.valid_rows])]
    codes = encode_rows(
        training.model.in_precision(training.accelerator.mixed_precision),
        training.dataset,
        np.concatenate([query, database]),
        training.accelerator,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        progress=shows_progress(training.accelerator),
    )
    return mean_average_precisions(codes, data.folder.labels, query, database, ("image->text", "text->image"))


def _describe(log: Log, config: Config, data: Data, model: HashModel, run: Run, done: int) -> None:
    split = data.split
    log.line(
        "%s, %d bits, %s (%d rows: %d queries, %d training, %d validation, %d database), %.1f M trained parameters",
        config.method,
        config.k_bits,
        config.dataset,
        len(data.folder),
        len(split.query),
        len(split.train),
        len(split.val),
        len(split.database),
        sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6,
    )
    log.line("run folder %s%s", run.path, f", resumed after epoch {done}" if done else "")
    if data.pairs_only:
        log.line("no row has a label: %s learns from pairs alone; only a query's own pair is relevant", config.method)
    if config.unseen_labels:
        log.line("%d labels are never trained on; no training row has one", config.unseen_labels)
    if data.unusable:
        missing = "text" if data.pairs_only else "label"
        log.line("%d rows have no %s and are left out of the split", data.unusable, missing)
    if data.rejected:
        run.write_rejected(data.folder, data.rejected)
        log.line("%d pictures cannot be read and are left out; see %s/rejected.tsv", len(data.rejected), run.path)
