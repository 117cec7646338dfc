"""A solution in classes: a residual network, SGD with a state that knows how to save itself, early
stopping, a data set that draws each image's augmentation from (seed, epoch, row)."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter


class UserError(Exception):
    pass


class Digits(Dataset):
    """Rows of a file. In training, each is shifted by draws that depend on seed, epoch and row."""

    def __init__(self, path: Path, needs_labels: bool):
        try:
            with np.load(path) as file:
                self.images = torch.from_numpy(file["images"]).float()
                if needs_labels:
                    self.labels = torch.from_numpy(file["labels"])
                    self.writers = file["writers"]
        except FileNotFoundError:
            raise UserError(f"{path} does not exist") from None
        self.path, self.rows = path, range(len(self.images))
        self.seed = self.epoch = None
        bad = [i for i, image in enumerate(self.images) if not torch.isfinite(image).all()]
        if bad:
            raise UserError(f"{path}: row {bad[0]} has a pixel that is NaN or infinite")
        if needs_labels and not ((self.labels >= 0) & (self.labels <= 9)).all():
            row = int(((self.labels < 0) | (self.labels > 9)).nonzero()[0])
            raise UserError(f"{path}: row {row} has label {self.labels[row]}, allowed are 0 to 9")

    def part(self, rows, seed: int | None = None) -> Digits:
        part = object.__new__(Digits)
        part.__dict__ = {**self.__dict__, "rows": rows, "seed": seed}
        return part

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        row = self.rows[index]
        image = self.images[row]
        if self.seed is not None:
            draw = np.random.default_rng((self.seed, self.epoch, row))
            up, left = draw.integers(-2, 3, 2).tolist()
            image = image.roll((up, left), (0, 1))
            image = image ** float(draw.uniform(0.7, 1.4))
        image = (image - image.mean()) / (image.std() + 0.1)
        return image[None], self.labels[row] if hasattr(self, "labels") else -1


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, stride=2, bias=False),
            nn.GroupNorm(4, outputs),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(4, outputs),
        )
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.body(x) + self.skip(x))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(Residual(1, 16), Residual(16, 40), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(40 * 16, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@dataclasses.dataclass
class Progress:
    epoch: int = 0
    step: int = 0
    best: float = float("inf")
    waited: int = 0


class Training:
    EPOCHS, PATIENCE, BATCH = 10, 6, 48

    def __init__(self, options: argparse.Namespace):
        self.options, self.out = options, options.out
        digits = Digits(options.data / "train.npz", needs_labels=True)
        chosen = np.random.default_rng(7).permutation(np.unique(digits.writers))[:5]
        val = np.isin(digits.writers, chosen)
        rows = {"train": np.flatnonzero(~val).tolist(), "val": np.flatnonzero(val).tolist()}
        self.train_set = digits.part(rows["train"], seed=options.seed)
        self.val_loader = DataLoader(digits.part(rows["val"]), batch_size=200)
        torch.manual_seed(options.seed)
        self.model = Network()
        decay = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=options.rate, **decay)
        self.progress = Progress()
        self.out.mkdir(parents=True, exist_ok=True)
        if options.resume and (self.out / "last.pt").exists():
            self.load(torch.load(self.out / "last.pt", weights_only=True, map_location="cpu"))
        self.write("split.json", json.dumps(rows).encode())
        self.log = SummaryWriter(self.out / "logs", purge_step=self.progress.step + 1)

    def state(self) -> dict:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **dataclasses.asdict(self.progress),
        }

    def load(self, state: dict) -> None:
        self.model.load_state_dict(state.pop("model"))
        self.optimizer.load_state_dict(state.pop("optimizer"))
        self.progress = Progress(**state)

    def write(self, name: str, content: bytes) -> None:
        target = self.out / name
        draft = target.with_name(name + ".part")
        try:
            draft.write_bytes(content)
            os.replace(draft, target)
        except OSError as error:
            raise UserError(f"could not write {target}: {error.strerror}") from error

    def save(self, name: str) -> None:
        self.log.flush()
        buffer = io.BytesIO()
        torch.save(self.state(), buffer)
        self.write(name, buffer.getvalue())

    def rate(self) -> float:
        """A warm-up over the first epoch, then a line down to a twentieth."""
        epoch = self.progress.epoch
        return self.options.rate * (0.3 if epoch == 0 else 1 - 0.95 * epoch / self.EPOCHS)

    def run(self) -> None:
        progress = self.progress
        while progress.epoch < self.EPOCHS and progress.waited < self.PATIENCE:
            self.one_epoch()
            progress.epoch += 1
            if progress.epoch % self.options.eval_every == 0 or progress.epoch == self.EPOCHS:
                self.validate()
            self.save("last.pt")
        self.log.close()

    def one_epoch(self) -> None:
        self.train_set.epoch = self.progress.epoch
        torch.manual_seed(self.options.seed * 1_000_003 + self.progress.epoch)
        self.optimizer.param_groups[0]["lr"] = self.rate()
        self.model.train()
        for x, y in DataLoader(self.train_set, batch_size=self.BATCH, shuffle=True):
            loss = nn.functional.cross_entropy(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), 5)
            self.optimizer.step()
            self.progress.step += 1
            for tag, value in {
                "train/loss": loss.item(),
                "gradient norm": norm.item(),
                "rate": self.rate(),
            }.items():
                self.log.add_scalar(tag, value, self.progress.step)

    @torch.no_grad()
    def validate(self) -> None:
        self.model.eval()
        logits, labels = zip(*((self.model(x), y) for x, y in self.val_loader), strict=True)
        logits, labels = torch.cat(logits), torch.cat(labels)
        loss = nn.functional.cross_entropy(logits, labels).item()
        hits = (logits.argmax(1) == labels).float().mean().item()
        self.log.add_scalar("val/loss", loss, self.progress.step)
        self.log.add_scalar("val/accuracy", hits, self.progress.step)
        self.progress.waited += 1
        if loss < self.progress.best:
            self.progress.best, self.progress.waited = loss, 0
            self.save("best.pt")


@torch.no_grad()
def predict(options: argparse.Namespace) -> None:
    network = Network()
    state = torch.load(options.model / "best.pt", weights_only=True, map_location="cpu")
    network.load_state_dict(state["model"])
    network.eval()
    loader = DataLoader(Digits(options.images, needs_labels=False), batch_size=options.batch_size)
    rows = [torch.softmax(network(x), dim=1) for x, _ in loader]
    np.savez(options.out, probabilities=torch.cat(rows).numpy())


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.set_defaults(run=lambda options: Training(options).run())
    command.add_argument("--data", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--rate", type=positive, default=0.05)
    command.add_argument("--eval-every", type=int, default=1)
    command.add_argument("--resume", action="store_true")
    command = commands.add_parser("predict")
    command.set_defaults(run=predict)
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--images", type=Path, required=True)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--batch-size", type=int, default=128)
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        chosen = parsed()
        chosen.run(chosen)
    except UserError as problem:
        sys.exit(str(problem))
