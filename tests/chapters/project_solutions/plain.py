"""A solution with torch and NumPy alone. Each epoch has its own seed, so a resume needs no state
of random numbers, and a checkpoint is written after each epoch."""

import argparse
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

EPOCHS, BATCH, CLASSES = 15, 64, 10
WRONG = 1 / 16  # of the labels


class Refused(Exception):
    """Something that the person who called the program can fix."""


def network():
    def block(inputs, outputs):
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]

    return nn.Sequential(
        *block(1, 16), *block(16, 32), nn.Flatten(), nn.Dropout(0.3), nn.Linear(512, CLASSES)
    )


def prepared(images):
    """Each image with mean 0 and standard deviation 1, as sheets and inks differ."""
    x = torch.from_numpy(images).float().unsqueeze(1)
    std, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
    return (x - mean) / (std + 0.05)


def read_images(path):
    if not path.is_file():
        raise Refused(f"there is no file {path}: give the folder or the file with the data")
    with np.load(path) as file:
        data = dict(file)
    finite = np.isfinite(data["images"]).all(axis=(1, 2))
    if not finite.all():
        rows = np.flatnonzero(~finite)[:5].tolist()
        raise Refused(f"{path}: images must be finite, but rows {rows} hold NaN or infinity")
    return data


def read_training(folder):
    path = folder / "train.npz"
    data = read_images(path)
    wrong = np.flatnonzero((data["labels"] < 0) | (data["labels"] >= CLASSES))
    if len(wrong):
        values = data["labels"][wrong[:5]].tolist()
        raise Refused(f"{path}: labels must be 0 to 9, rows {wrong[:5].tolist()} have {values}")
    return data


def split(writers):
    """Rows of training and validation; the validation rows are those of every fifth writer."""
    held_out = np.isin(writers, np.unique(writers)[::5])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def save(state, path):
    """Write a file whole or not at all."""
    unfinished = path.with_suffix(".tmp")
    try:
        with open(unfinished, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)
        raise Refused(f"can't write {path} ({error}): free some space") from error


def shifted(x):
    """The batch, each image moved, turned and stretched a little."""
    n = len(x)
    angle, shear = 0.15 * torch.randn(2, n)
    scale = 1 + 0.1 * torch.randn(2, n)
    shift = 0.12 * torch.randn(2, n)
    rows = [
        torch.stack([angle.cos() * scale[0], angle.sin() + shear, shift[0]], dim=1),
        torch.stack([-angle.sin(), angle.cos() * scale[1], shift[1]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def evaluate(model, x, y):
    model.eval()
    logits = model(x)
    model.train()
    loss = F.cross_entropy(logits, y)
    return logits, loss.item(), (logits.argmax(dim=1) == y).float().mean().item()


def sharpness_of(logits, y):
    """The factor for the logits that fits the validation labels best, some of which are wrong."""

    def loss(factor):
        right = (factor * logits).softmax(dim=1)[torch.arange(len(y)), y]
        return -((1 - WRONG) * right + WRONG / CLASSES).log().mean().item()

    return min(torch.linspace(0.5, 2.5, 41).tolist(), key=loss)


def train(options):
    if not (math.isfinite(options.rate) and options.rate > 0):
        raise Refused(f"--rate must be a positive number, got {options.rate}")
    data = read_training(options.data)
    rows, held_out = split(data["writers"])
    images, labels = prepared(data["images"]), torch.from_numpy(data["labels"])
    x, y, x_val, y_val = images[rows], labels[rows], images[held_out], labels[held_out]

    torch.manual_seed(options.seed)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.02)
    steps_an_epoch = math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=options.rate, total_steps=EPOCHS * steps_an_epoch
    )
    epoch, step, best = 0, 0, -1.0
    options.out.mkdir(parents=True, exist_ok=True)
    last = options.out / "last.pt"
    if options.resume and last.exists():
        state = torch.load(last, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        epoch, step, best = state["epoch"], state["step"], state["best"]
    (options.out / "split.json").write_text(
        json.dumps({"train": rows.tolist(), "val": held_out.tolist()})
    )
    writer = SummaryWriter(options.out / "logs", purge_step=step + 1)

    model.train()
    while epoch < EPOCHS:
        torch.manual_seed(1000 * options.seed + epoch)
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = F.cross_entropy(model(shifted(x[batch])), y[batch])
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            writer.add_scalar("rate", schedule.get_last_lr()[0], step + 1)
            optimizer.step()
            schedule.step()
            step += 1
            writer.add_scalar("train/loss", loss.item(), step)
            writer.add_scalar("gradient norm", norm.item(), step)
        epoch += 1
        if epoch % options.eval_every == 0 or epoch == EPOCHS:
            logits, loss, accuracy = evaluate(model, x_val, y_val)
            writer.add_scalar("val/loss", loss, step)
            writer.add_scalar("val/accuracy", accuracy, step)
            if accuracy > best:
                best = accuracy
                state = {"model": model.state_dict(), "step": step}
                state["sharpness"] = sharpness_of(logits, y_val)
                save(state, options.out / "best.pt")
        writer.flush()
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"schedule": schedule.state_dict(), "epoch": epoch, "step": step, "best": best}
        save(state, last)
    writer.close()


@torch.no_grad()
def predict(options):
    model = network().eval()
    state = torch.load(options.model / "best.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    x = prepared(read_images(options.images)["images"])
    logits = torch.cat([model(batch) for batch in x.split(options.batch_size)])
    np.savez(options.out, probabilities=(state["sharpness"] * logits).softmax(dim=1).numpy())


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train")
    one.add_argument("--data", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--rate", type=float, default=0.01)
    one.add_argument("--eval-every", type=int, default=1)
    one.add_argument("--resume", action="store_true")
    one.set_defaults(run=train)
    one = commands.add_parser("predict")
    one.add_argument("--model", type=Path, required=True)
    one.add_argument("--images", type=Path, required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--batch-size", type=int, default=256)
    one.set_defaults(run=predict)
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        options.run(options)
    except (Refused, OSError) as error:
        sys.exit(f"project.py: {error}")


if __name__ == "__main__":
    main()
