"""Are margins worth it? The heads of chapter 08 over many seeds, scales and two encoders.

``python -m chapters.margin_losses.experiment`` runs it at full size and prints the tables;
``--help`` lists its options. A seed decides the first weights and the batches, and in verification
also which digits are trained on, the same for every head, so differences between heads are paired.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import data, margins, runtime

#: of (features, classes), a head that is called with features and labels
MakesHead = Callable[[int, int], nn.Module]
#: a row for each seed, a column for each measurement
Results = Mapping[str, Float[Tensor, "seeds columns"]]

EPOCHS, BATCH, RATE = 20, 128, 0.01
SCALES = (2.5, 5.0, 10.0, 20.0, 40.0)
KNOWN = 7  # digits to train on in verification; the other three are never seen
WARMUP = 60  # steps
RISES_TO = 14.0  # a scale that rises from 1: about the lengths at which softmax itself arrives


class Softmax(nn.Linear):
    """A linear layer without a bias that is called as the other heads are."""

    def __init__(self, features: int, classes: int):
        super().__init__(features, classes, bias=False)

    def forward(
        self, features: Float[Tensor, "n features"], labels: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n classes"]:
        return super().forward(features)


def heads(scale: float = 20.0) -> dict[str, MakesHead]:
    """Every head of the chapter, those with a scale at this one."""
    return {
        "softmax": Softmax,
        "L2-softmax": partial(margins.L2Softmax, scale=scale),
        "cosine": partial(margins.CosineHead, scale=scale),
        "CosFace": partial(margins.CosFace, scale=scale, margin=0.35),
        "ArcFace": partial(margins.ArcFace, scale=scale, margin=0.5),
    }


def mlp(features: int) -> nn.Module:
    """The chapter's encoder."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, features),
    )


def cnn(features: int) -> nn.Module:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, features),
    )


def train(
    encoder: nn.Module,
    head: nn.Module,
    x: Float[Tensor, "n 1 8 8"],
    y: Int[Tensor, " n"],
    epochs: int = EPOCHS,
    warmup: int = WARMUP,
    scale_rises: bool = False,
) -> None:
    """Train both with Adam and a one-cycle rate, the margin raised over ``warmup`` steps.

    With a ``warmup`` of 0 the margin is whole from the start. With ``scale_rises`` the head's scale
    rises from 1 in nine tenths of the training. Leaves the encoder in eval mode.
    """
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()])
    steps = epochs * math.ceil(len(x) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    warmups = []
    if warmup > 0 and getattr(head, "margin", 0) > 0:
        warmups.append(margins.Warmup(head, warmup))
    if scale_rises:
        warmups.append(margins.Warmup(head, math.ceil(0.9 * steps), "scale", 1.0))
    encoder.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), device=x.device).split(BATCH):
            loss = F.cross_entropy(head(encoder(x[rows]), y[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            for one in warmups:
                one.step()
    encoder.eval()


# The classes in few dimensions --------------------------------------------------------------------

#: degrees within a class, degrees to the nearest class, per cent of the test digits right
GEOMETRY = ("within", "between", "accuracy")


def geometry(
    make: MakesHead,
    seeds: Sequence[int],
    features: int = 3,
    classes: int = 10,
    epochs: int = EPOCHS,
    warmup: int = WARMUP,
    scale_rises: bool = False,
) -> Float[Tensor, "seeds columns"]:
    """``GEOMETRY`` of the test digits below ``classes``, for features of so many dimensions."""
    digits = _digits()
    train_rows, test_rows = digits.y_train < classes, digits.y_test < classes
    found = []
    for seed in seeds:
        runtime.seed(seed)
        encoder, head = _made(mlp, make, features, classes)
        x, y = digits.x_train[train_rows], digits.y_train[train_rows]
        train(encoder, head, x, y, epochs, warmup, scale_rises)
        labels = digits.y_test[test_rows]
        with torch.no_grad():
            embedded = encoder(digits.x_test[test_rows])
            right = (head(embedded).argmax(dim=1) == labels).float().mean().item()
        found.append([*margins.class_angles(embedded, labels), 100 * right])
    return torch.tensor(found)


# The same digit, or not? --------------------------------------------------------------------------

#: equal error rates in per cent
VERIFICATION = ("known", "unknown")


def verification(
    make: MakesHead | None,
    seeds: Sequence[int],
    make_encoder: Callable[[int], nn.Module] = mlp,
    features: int = 32,
    epochs: int = EPOCHS,
) -> Float[Tensor, "seeds columns"]:
    """Equal error rates over all pairs of test digits, of known classes and of unknown ones.

    Each seed draws ``KNOWN`` digits; their training rows are all that is trained on. Without a
    head (None) the pixels themselves are compared.
    """
    digits = _digits()
    found = []
    for seed in seeds:
        known = known_digits(seed).to(digits.y_test.device)
        test_rows = torch.isin(digits.y_test, known)
        vectors = digits.x_test.flatten(1)
        if make is not None:
            vectors = _trained_on(known, make, make_encoder, features, seed, epochs)
        found.append(
            [100 * _error_rate(vectors, digits.y_test, rows) for rows in (test_rows, ~test_rows)]
        )
    return torch.tensor(found)


def known_digits(seed: int) -> Int[Tensor, " known"]:
    """The digits that a seed draws for training, in order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(10, generator=generator)[:KNOWN].sort().values


def _trained_on(
    known: Int[Tensor, " known"],
    make: MakesHead,
    make_encoder: Callable[[int], nn.Module],
    features: int,
    seed: int,
    epochs: int,
) -> Float[Tensor, "n features"]:
    """The test digits' features, of an encoder that was trained on the known digits."""
    digits = _digits()
    rows = torch.isin(digits.y_train, known)
    numbers = torch.searchsorted(known, digits.y_train[rows])
    runtime.seed(seed)
    encoder, head = _made(make_encoder, make, features, len(known))
    train(encoder, head, digits.x_train[rows], numbers, epochs)
    with torch.no_grad():
        return encoder(digits.x_test)


def _error_rate(
    vectors: Float[Tensor, "n features"], labels: Int[Tensor, " n"], rows: Bool[Tensor, " n"]
) -> float:
    return margins.equal_error_rate(*margins.pair_scores(vectors[rows], labels[rows]))


# Tables -------------------------------------------------------------------------------------------


def table(results: Results, columns: Sequence[str], base: str) -> Iterator[str]:
    """Lines of mean ± spread over the seeds, and of the paired difference from ``base``."""
    width = max(map(len, results))
    yield f"{'':{width}}  " + "  ".join(f"{f'{c} (against {base})':>30}" for c in columns)
    for name, values in results.items():
        gap = values - results[base]
        cells = (
            f"{m:.1f} ± {s:.1f} ({dm:+.1f} ± {ds:.1f})"
            for m, s, dm, ds in zip(
                values.mean(0), values.std(0), gap.mean(0), gap.std(0), strict=True
            )
        )
        yield f"{name:{width}}  " + "  ".join(f"{cell:>30}" for cell in cells)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        prog="python -m chapters.margin_losses.experiment", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=10, help="runs of each kind (10)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of each run ({EPOCHS})")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error("--seeds must be at least 2: a spread needs two runs")
    runtime.threads(1)
    seeds = range(options.seeds)
    run = partial(geometry, seeds=seeds, epochs=options.epochs)

    print(f"Mean ± standard deviation over {options.seeds} seeds.")
    print("In brackets: the same of the difference between runs of the same seed.\n")
    print("Three features, ten digits: degrees within and between classes, accuracy in per cent")
    sphere = {"softmax": run(Softmax)}
    for scale in SCALES:
        for name, make in heads(scale).items():
            if name != "softmax":
                sphere[f"{name}, scale {scale:g}"] = run(make)
    held = heads(RISES_TO)["cosine"]
    sphere[f"cosine, scale {RISES_TO:g}"] = run(held)
    sphere[f"cosine, scale 1 to {RISES_TO:g}"] = run(held, scale_rises=True)
    for name in ("CosFace", "ArcFace"):
        sphere[f"{name}, scale 20, no warm-up"] = run(heads()[name], warmup=0)
    print(*table(sphere, GEOMETRY, "softmax"), sep="\n")

    for classes in (5, 10):
        print(f"\nTwo features, {classes} digits, scale 20")
        flat = partial(run, features=2, classes=classes)
        circle = {n: flat(make) for n, make in heads().items()}
        circle[f"cosine, scale 1 to {RISES_TO:g}"] = flat(held, scale_rises=True)
        print(*table(circle, GEOMETRY, "softmax"), sep="\n")

    for encoder in (mlp, cnn):
        print(f"\nVerification, {encoder.__name__} encoder: equal error rate in per cent")
        rates = {"pixels": verification(None, seeds)}
        for name, make in heads().items():
            rates[name] = verification(make, seeds, encoder, epochs=options.epochs)
        print(*table(rates, VERIFICATION, "softmax"), sep="\n")


def _digits() -> data.Split:
    device = runtime.device()
    return data.Split(*(part.to(device) for part in data.digits()))


def _made(
    make_encoder: Callable[[int], nn.Module], make: MakesHead, features: int, classes: int
) -> tuple[nn.Module, nn.Module]:
    device = runtime.device()
    head = make(features, classes).to(device)
    return make_encoder(features).to(device), head


if __name__ == "__main__":
    main()
