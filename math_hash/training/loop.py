"""Training, from top to bottom."""

import math
import os
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from math_hash.config import Config
from math_hash.data import load_batches
from math_hash.encoders import ClipEncoder, Features
from math_hash.errors import InputError
from math_hash.models.bit_order import bit_significance_order
from math_hash.models.model import HashModel
from math_hash.training.bert_adam import BertAdam
from math_hash.training.code_bank import CodeBank
from math_hash.training.distributed import gather_rows, share_of
from math_hash.training.evaluate import encode_rows, pooled_vectors, retrieval_precision
from math_hash.training.feature_cache import with_cache
from math_hash.training.image_cache import with_image_cache
from math_hash.training.memory import keep_freed_memory, memory_errors
from math_hash.training.run_folder import RunFolder, new_folder_name
from math_hash.training.setup import Data, open_model


class TrainingStep(nn.Module):
    """One forward pass over a batch: encode, write the banks, take the loss."""

    def __init__(self, model: HashModel, bank: CodeBank):
        super().__init__()
        self.model, self.bank = model, bank

    def forward(self, inputs: dict[str, Any], positions: Tensor, turn: tuple[str, ...]) -> dict[str, Tensor]:
        """The weighted loss terms of a batch.

        Args:
            inputs: this process's share of the batch, as the dataset gives it.
            positions: int64 (b,), places of all of the batch's rows in the bank.
            turn: the streams that learn.
        """

        def gather(value: Tensor) -> Tensor:
            return gather_rows(value.float(), len(positions))

        encoder, head, bank = self.model.encoder, self.model.head, self.bank
        features: dict[str, Features | None] = {}
        for stream in turn:
            if stream == "image":
                features[stream] = encoder.encode_image(inputs["image"], head.needs)
            elif stream == "text":
                features[stream] = encoder.encode_text(inputs["text"], head.needs)
            else:
                named = head.needs.label_text
                features[stream] = encoder.encode_text(inputs["label_text"], head.needs) if named else None
        outputs = head(features, inputs["label"], gather)
        with torch.autocast(positions.device.type, enabled=False):
            bank.write(positions, head.bank_codes(outputs))
            return head.loss_terms(outputs, bank.codes, bank.labels, positions)


def turns_of(model: HashModel, config: Config) -> tuple[tuple[str, ...], ...]:
    """The streams that learn together, one tuple a pass over the training rows."""
    return (model.head.streams,) if config.joint_update else model.head.turns


def make_accelerator(config: Config) -> Accelerator:
    """The devices, the precision and the processes of this run.

    Raises:
        InputError: this machine cannot compute in that precision.
    """
    # every process writes the same codes to its bank; streams that are not in turn have no gradients
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    try:
        return Accelerator(mixed_precision=config.precision, kwargs_handlers=[ddp])
    except (ValueError, RuntimeError) as error:
        raise InputError(f"--precision {config.precision}: {error}; use --precision no or bf16") from error


def train(config: Config, accelerator: Accelerator, data: Data) -> RunFolder:
    """Train, keep the best model, and save the full state after each epoch.

    Everything that an epoch draws at random is a function of the seed and the epoch, so a run that was killed and
    resumed ends with the same weights as one that was not.

    Returns:
        The run's folder, in which `model.safetensors` is the best model.

    Raises:
        InputError: anything about the options, the data or the disk is not as it must be.
    """
    main = accelerator.is_main_process
    show = main and os.isatty(2)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    run = RunFolder(config.resume or _agree(new_folder_name(config)))
    folder, split = data.folder, data.split
    _seed(config.seed, 0)
    model = open_model(config, data)
    data = with_image_cache(config, model, with_cache(config, model, data, accelerator), accelerator)
    if not model.head.is_trained:
        return _fit(config, accelerator, data, model, run, show)
    labels = torch.from_numpy(folder.labels[split.train]).to(accelerator.device)
    bank = CodeBank(model.head.streams, labels, config.k_bits, config.seed)
    dataset = data.pairs(model)

    turns = turns_of(model, config)
    batches = -(-len(split.train) // config.batch_size) * len(turns)
    updates = -(-batches // config.gradient_accumulation)
    optimizer = BertAdam(
        _parameter_groups(model, config),
        lr=config.lr,
        total_steps=config.epochs * updates,
        warmup=config.warmup_proportion,
        weight_decay=config.weight_decay,
    )
    step, optimizer = accelerator.prepare(TrainingStep(model, bank), optimizer)

    state = run.load_checkpoint() if config.resume else None
    done, best, history = 0, {"score": -math.inf, "epoch": None}, []
    if state:
        _restore(state, model, bank, optimizer, accelerator, run)
        done, best = state["epoch"], state["best"]
        history = [record for record in run.read_metrics() if record["epoch"] <= done]
    elif main and not config.resume:
        run.create(replace(config, save_dir=""), folder.protocol)
    accelerator.wait_for_everyone()
    logger = run.start_logging() if main else None
    writer = SummaryWriter(run.path / "tensorboard", purge_step=done * batches) if main else None
    if main:
        _describe(logger, config, data, model, run, done)

    for epoch in range(done + 1, config.epochs + 1):
        start = time.perf_counter()
        _seed(config.seed, epoch, accelerator.process_index)
        with memory_errors(config):
            passes = [
                _train_epoch(config, epoch, turn, step, model, optimizer, dataset, data, accelerator, show)
                for turn in turns
            ]
        record = _joined(passes)
        record["training_seconds"] = round(time.perf_counter() - start, 3)
        record["samples_per_second"] = round(len(split.train) / record["training_seconds"], 1)
        if epoch % config.valid_freq == 0 or epoch == config.epochs:
            record["mAP"] = _validate(config, model, dataset, data, accelerator, show)
            record["score"] = (record["mAP"]["image->text"] + record["mAP"]["text->image"]) / 2
            if record["score"] > best["score"]:
                best = {"score": record["score"], "epoch": epoch}
                model.bit_order.copy_(bit_significance_order(bank.image, bank.text, bank.labels))
                if main:
                    model.save(run.path)
        if main:
            history.append(record)
            run.write_metrics(history)
            run.save_checkpoint(
                {
                    "epoch": epoch,
                    "best": best,
                    "model": model.state_dict(),
                    "bank": bank.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scaler": accelerator.scaler.state_dict() if accelerator.scaler else None,
                }
            )
            _log(logger, writer, record, config, batches)
        accelerator.wait_for_everyone()
    if main:
        writer.close()
        logger.info("best epoch %s on %s: %.4f", best["epoch"], config.select_on, best["score"])
    return run


def _fit(config, accelerator, data, model, run, show) -> RunFolder:
    """What stands in the place of training where a method is fitted to the training rows' vectors."""
    if accelerator.is_main_process:
        if not config.resume:
            run.create(replace(config, save_dir=""), data.folder.protocol)
        _describe(run.start_logging(), config, data, model, run, 0)
    vectors = pooled_vectors(
        model.to(accelerator.device),
        data.pairs(model),
        data.split.train,
        accelerator,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        progress=show,
    )
    model.head.fit(*(torch.from_numpy(vectors[name]) for name in ("image", "text")), config.seed)
    if accelerator.is_main_process:
        model.save(run.path)
    accelerator.wait_for_everyone()
    return run


def best_epoch(run: RunFolder) -> int | None:
    """The epoch that `model.safetensors` was saved after: the first with the highest score."""
    scored = [record for record in run.read_metrics() if "score" in record]
    return max(scored, key=lambda record: record["score"])["epoch"] if scored else None


def _joined(passes: list[dict[str, Any]]) -> dict[str, Any]:
    """One record of an epoch's turns."""
    losses = {name: loss for found in passes for name, loss in found["losses"].items()}
    return {**passes[-1], "loss": sum(losses.values()), "losses": losses}


def _train_epoch(config, epoch, turn, step, model, optimizer, dataset, data, accelerator, show) -> dict[str, Any]:
    model.train()
    train_rows = data.split.train
    order = np.random.default_rng([config.seed, epoch]).permutation(len(train_rows))
    batches = [order[at : at + config.batch_size] for at in range(0, len(order), config.batch_size)]
    places = torch.from_numpy(order).to(accelerator.device).split(config.batch_size)  # at once: no step waits for them
    shares = [share_of(train_rows[batch], accelerator.process_index, accelerator.num_processes) for batch in batches]
    draw = (config.seed, epoch) if config.draw_captions else None
    loaded = load_batches(dataset.for_training(turn, draw), shares, config.num_workers, accelerator.device)
    totals: dict[str, Tensor] = {}
    rates = [BertAdam.rate(group) for group in optimizer.param_groups]
    bar = tqdm(loaded, total=len(batches), desc=f"epoch {epoch}/{config.epochs}", unit="step", disable=not show)
    for number, inputs in enumerate(bar, start=1):
        positions = places[number - 1]
        update = number % config.gradient_accumulation == 0 or number == len(batches)
        with nullcontext() if update else accelerator.no_sync(step):
            terms = step(inputs, positions, turn)
            accelerator.backward(sum(terms.values()) / config.gradient_accumulation)
        if update:
            rates = [BertAdam.rate(group) for group in optimizer.param_groups]
            optimizer.step()
            optimizer.zero_grad()
        for name, term in terms.items():  # summed on the device: no step waits for the last one's numbers
            totals[name] = totals.get(name, 0) + term.detach() * len(positions)
    losses = {name: float(total) / len(order) for name, total in totals.items()}
    if not all(math.isfinite(loss) for loss in losses.values()):
        listing = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
        raise InputError(f"epoch {epoch}: the loss is not finite ({listing}); lower --lr, or use --precision no")
    return {
        "epoch": epoch,
        "loss": sum(losses.values()),
        "losses": losses,
        "lr": rates[0],
        "clip_lr": rates[1] if len(rates) > 1 else None,
    }


def _validate(config, model, dataset, data, accelerator, show) -> dict[str, float]:
    split = data.split
    query = split.val if config.select_on == "val" else split.query
    database = query if data.pairs_only else split.database[~np.isin(split.database, query)]
    if 0 < config.valid_rows < len(database) and not data.pairs_only:
        drawn = np.random.default_rng([config.seed, config.valid_rows]).permutation(len(database))
        database = database[np.sort(drawn[: config.valid_rows])]
    codes = encode_rows(
        model,
        dataset,
        np.concatenate([query, database]),
        accelerator,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        progress=show,
    )
    return retrieval_precision(codes, data.folder.labels, query, database, ("image->text", "text->image"))


def _parameter_groups(model: HashModel, config: Config) -> list[dict[str, Any]]:
    """The heads, and maps of stored features, at `lr`; CLIP, if there is one and it is not frozen, at `clip_lr`."""
    clip = [p for p in model.encoder.parameters() if p.requires_grad] if isinstance(model.encoder, ClipEncoder) else []
    in_clip = {id(p) for p in clip}
    heads = [p for p in model.parameters() if p.requires_grad and id(p) not in in_clip]
    groups = [{"params": heads, "lr": config.lr}]
    return [*groups, {"params": clip, "lr": config.clip_lr}] if clip else groups


def _restore(state, model, bank, optimizer, accelerator, run) -> None:
    try:
        model.load_state_dict(state["model"])
        bank.load_state_dict(state["bank"])
        optimizer.load_state_dict(state["optimizer"])
        if accelerator.scaler and state["scaler"]:
            accelerator.scaler.load_state_dict(state["scaler"])
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--resume {run.path}: its checkpoint is of another model ({reason})") from error


def _seed(*numbers: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def _agree(name: str) -> str:
    """The main process's choice, on all processes."""
    return broadcast_object_list([name])[0]


def _describe(logger, config, data, model, run, done) -> None:
    split = data.split
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info(
        "%s, %d bits, %s (%d rows: %d queries, %d training, %d validation, %d database), %.1f M trained parameters",
        config.method,
        config.k_bits,
        config.dataset,
        len(data.folder),
        len(split.query),
        len(split.train),
        len(split.val),
        len(split.database),
        trained / 1e6,
    )
    logger.info("run folder %s%s", run.path, f", resumed after epoch {done}" if done else "")
    if data.pairs_only:
        logger.info("no row has a label: %s learns from pairs alone; relevant is a query's own pair", config.method)
    if data.unusable:
        logger.info(
            "%d rows have no %s and are left out of the split", data.unusable, "text" if data.pairs_only else "label"
        )
    if data.rejected:
        lines = [f"{row}\t{data.folder.images[row]}\t{reason}\n" for row, reason in data.rejected.items()]
        (run.path / "rejected.tsv").write_text("row\timage\treason\n" + "".join(lines))
        logger.info("%d pictures cannot be read and are left out; see %s/rejected.tsv", len(lines), run.path)


def _log(logger, writer, record, config, batches) -> None:
    at = record["epoch"] * batches
    for name, value in {**record["losses"], "total": record["loss"]}.items():
        writer.add_scalar(f"loss/{name}", value, at)
    for name in ("lr", "clip_lr", "samples_per_second"):
        if record[name] is not None:
            writer.add_scalar(name, record[name], at)
    for direction, value in record.get("mAP", {}).items():
        writer.add_scalar(f"mAP/{direction}", value, at)
    writer.flush()
    precision = "".join(f"  {direction} {value:.4f}" for direction, value in record.get("mAP", {}).items())
    logger.info(
        "epoch %d/%d  loss %.4f  %.0f samples/s%s",
        record["epoch"],
        config.epochs,
        record["loss"],
        record["samples_per_second"],
        precision,
    )
