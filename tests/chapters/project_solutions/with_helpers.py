"""A solution with the course's helpers. It saves every 25 steps, in the middle of an epoch, too."""

import argparse
import json
import sys
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter

from helpers import checkpoint, runtime, training
from helpers.checkpoint import CheckpointError, ShuffledBatches

EPOCHS = 12
SAVE_EVERY = 25
SHARPER = 1.3  # wrong labels make the model too modest; chosen once, on validation data


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 20, 3, padding=1),
        nn.BatchNorm2d(20),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.GELU(),
        nn.AdaptiveMaxPool2d(4),
        nn.Flatten(),
        nn.Dropout(0.05),
        nn.Linear(512, 10),
    )


def to_inputs(images: np.ndarray) -> torch.Tensor:
    x = torch.as_tensor(images, dtype=torch.float32)[:, None]
    low, high = (x.flatten(1).quantile(q, dim=1)[:, None, None, None] for q in (0.1, 0.95))
    return ((x - low) / (high - low + 0.05)).clamp(-1, 2) - 0.3


def check(file: Path, images: np.ndarray, labels: np.ndarray | None = None) -> None:
    for row, image in enumerate(images):
        if not np.isfinite(image).all():
            raise ValueError(f"{file}, row {row}: the image holds NaN or an infinite value")
    for row, label in enumerate([] if labels is None else labels):
        if label not in range(10):
            raise ValueError(f"{file}, row {row}: the label is {label}, it must be 0 to 9")


def split_by_writer(writers: np.ndarray, seed: int) -> tuple[list[int], list[int]]:
    people = np.random.default_rng(seed).permutation(np.unique(writers))
    held_out = np.isin(writers, people[: len(people) // 6])
    return np.flatnonzero(~held_out).tolist(), np.flatnonzero(held_out).tolist()


def moved(x: torch.Tensor) -> torch.Tensor:
    """Each image shifted by up to two pixels and sheared."""
    maps = torch.eye(2, 3).repeat(len(x), 1, 1) + 0.12 * torch.randn(len(x), 2, 3)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def train(data: Path, out: Path, seed: int, rate: float, eval_every: int, resume: bool) -> None:
    if not (isfinite(rate) and rate > 0):
        raise ValueError(f"--rate must be above 0, got {rate}")
    file = data / "train.npz"
    with np.load(file) as rows:
        images, labels, writers = rows["images"], rows["labels"], rows["writers"]
    check(file, images, labels)
    train_rows, val_rows = split_by_writer(writers, 0)
    out.mkdir(parents=True, exist_ok=True)
    (out / "split.json").write_text(json.dumps({"train": train_rows, "val": val_rows}))

    runtime.seed(seed)
    runtime.threads(1)
    x, y = to_inputs(images), torch.as_tensor(labels)
    weights = 1 / y[train_rows].bincount(minlength=10).float().sqrt()
    loss_fn = nn.CrossEntropyLoss(weight=weights / weights.mean())
    model = make_model()
    batches = ShuffledBatches(len(train_rows), 64, seed)
    # A loader draws a number each time it is gone over: not from the training's generator.
    own = torch.Generator()
    train_set = TensorDataset(x[train_rows], y[train_rows])
    loader = DataLoader(train_set, batch_sampler=batches, generator=own)
    val_set = TensorDataset(x[val_rows], y[val_rows])
    for_validation = DataLoader(val_set, batch_size=256, generator=own)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(batches))
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "batches": batches}
    done = {"step": 0, "best": float("inf")}
    if resume and (out / "last.pt").exists():
        done = checkpoint.load(out / "last.pt", **parts)
        checkpoint.set_random_state(done["random"])
    step, best = done["step"], done["best"]
    writer = SummaryWriter(out / "logs", purge_step=step + 1)

    while batches.epoch < EPOCHS:
        model.train()
        for inputs, targets in loader:
            loss = loss_fn(model(moved(inputs)), targets)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.get_total_norm([p.grad for p in model.parameters()])
            optimizer.step()
            step += 1
            writer.add_scalar("train/loss", loss, step)
            writer.add_scalar("gradient norm", norm, step)
            writer.add_scalar("rate", optimizer.param_groups[0]["lr"], step)
            schedule.step()
            if step % SAVE_EVERY == 0 and step % len(batches):
                writer.flush()
                random = checkpoint.random_state()
                checkpoint.save(out / "last.pt", **parts, step=step, best=best, random=random)
        if batches.epoch % eval_every == 0 or batches.epoch == EPOCHS:
            result = training.evaluate(model, for_validation, F.cross_entropy)
            writer.add_scalar("val/loss", result.loss, step)
            writer.add_scalar("val/accuracy", result.accuracy, step)
            if result.loss < best:
                best = result.loss
                checkpoint.save(out / "best.pt", model=model, step=step)
        writer.flush()
        random = checkpoint.random_state()
        checkpoint.save(out / "last.pt", **parts, step=step, best=best, random=random)
    writer.close()


@torch.inference_mode()
def predict(model: Path, images: Path, out: Path, batch_size: int) -> None:
    network = make_model()
    checkpoint.load(model / "best.pt", model=network)
    network.eval()
    with np.load(images) as rows:
        given = rows["images"]
    check(images, given)
    answers = [
        (SHARPER * network(batch)).softmax(1) for batch in to_inputs(given).split(batch_size)
    ]
    np.savez(out, probabilities=torch.cat(answers).numpy())


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    learn = commands.add_parser("train")
    learn.add_argument("--data", type=Path, required=True)
    learn.add_argument("--out", type=Path, required=True)
    learn.add_argument("--seed", type=int, default=0)
    learn.add_argument("--rate", type=float, default=0.006)
    learn.add_argument("--eval-every", type=int, default=1)
    learn.add_argument("--resume", action="store_true")
    answer = commands.add_parser("predict")
    answer.add_argument("--model", type=Path, required=True)
    answer.add_argument("--images", type=Path, required=True)
    answer.add_argument("--out", type=Path, required=True)
    answer.add_argument("--batch-size", type=int, default=100)
    options = vars(parser.parse_args())
    try:
        {"train": train, "predict": predict}[options.pop("command")](**options)
    except (ValueError, OSError, CheckpointError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
