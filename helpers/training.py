"""The training loop of chapter 00, for the chapters after it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = Sequence[Shaped[Tensor, "..."]]
LossFunction = Callable[[Tensor, Tensor], Tensor]


def step(
    model: nn.Module, batch: Batch, loss_fn: LossFunction, optimizer: Optimizer
) -> Float[Tensor, ""]:
    """Take one gradient step on the batch ``(x, y)``; return its loss from before the step."""
    x, y = batch
    optimizer.zero_grad()
    loss = _one_number(loss_fn(model(x), y))
    loss.backward()
    optimizer.step()
    return loss.detach()


def fit(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: LossFunction,
    optimizer: Optimizer,
    epochs: int,
    step: Callable[..., Tensor] = step,
) -> list[float]:
    """Train for ``epochs`` passes over ``batches``; return the mean loss per sample of each.

    ``batches`` gives pairs ``(x, y)`` each time it is gone over: a ``DataLoader`` or a list. They
    are moved to the device of the model's first parameter. ``loss_fn`` is a mean over its batch.
    The model is left in train mode. ``step(model, batch, loss_fn, optimizer)`` takes one step and
    returns the loss; pass your own to change what a step is: for LBFGS, which wants a closure, or
    to put frozen BatchNorm layers into eval mode.

    Raises ``ValueError`` for negative ``epochs``, an epoch without batches, batches that are not
    tensors and a loss that is not one number, and ``FloatingPointError`` at the end of an epoch in
    which a loss was not finite.
    """
    if epochs < 0:
        raise ValueError(f"epochs must be at least 0, got {epochs}")
    model.train()
    history = []
    for epoch in range(1, epochs + 1):
        losses, sizes = [], []
        for batch in _on_device_of(model, batches):
            loss = step(model, batch, loss_fn, optimizer)
            losses.append(_one_number(loss).detach().clone())  # a step may use its tensor again
            sizes.append(_samples(*batch))
        if not losses:
            raise ValueError(
                f"batches gave no batch in epoch {epoch}: a generator can be read once; pass a "
                "DataLoader or a list"
            )
        history.append(_finite_mean(torch.stack(losses), sizes, epoch))
    return history


class Evaluation(NamedTuple):
    """Means over samples: the loss, and the share of samples whose class is predicted right."""

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Any], loss_fn: LossFunction) -> Evaluation:
    """The model's loss and accuracy in eval mode, without gradients.

    The model gives logits ``(n, classes)``, of which the largest is the prediction; ``y`` holds
    classes ``(n,)``. ``loss_fn`` is a mean over its batch. Every submodule gets its own mode back.
    Raises ``ValueError`` if ``batches`` is empty, for logits or classes of another form, for
    numbers that are no classes, and for a loss that is not one number.
    """
    losses, hits, sizes = [], [], []
    with _eval_mode(model):
        for x, y in _on_device_of(model, batches):
            logits = model(x)
            _check_classes(logits, y)
            losses.append(_one_number(loss_fn(logits, y)))
            hits.append((logits.argmax(dim=1) == y).float().mean())
            sizes.append(len(y))
    if not sizes:
        raise ValueError("batches is empty: pass at least one batch (x, y) to evaluate on")
    return Evaluation(
        _mean_per_sample(torch.stack(losses), sizes), _mean_per_sample(torch.stack(hits), sizes)
    )


def _check_classes(logits: Tensor, y: Tensor) -> None:
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(
            f"evaluate needs logits of shape (n, classes), 2 classes or more, got "
            f"{tuple(logits.shape)}: measure a model with other outputs in a loop of your own"
        )
    if y.shape != logits.shape[:1] or y.is_floating_point():
        raise ValueError(
            f"evaluate needs class numbers of shape ({len(logits)},), got {y.dtype} of shape "
            f"{tuple(y.shape)}: for shares of classes use argmax(dim=1), for a column squeeze(1)"
        )
    y = y.long()  # a byte can't be compared with 256
    if ((y < 0) | (y >= logits.shape[1])).any():
        raise ValueError(
            f"evaluate needs classes from 0 to {logits.shape[1] - 1}, got {y.min()} to {y.max()}: "
            "leave samples without a class, such as those of ignore_index, out of the batches"
        )


def _on_device_of(model: nn.Module, batches: Iterable[Any]) -> Iterator[Batch]:
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    for batch in batches:
        if not isinstance(batch, Sequence) or not all(hasattr(part, "to") for part in batch):
            got = type(batch).__name__
            if isinstance(batch, Tensor):
                got += f" of shape {tuple(batch.shape)}"
            elif isinstance(batch, Iterable):
                got += f" of {[type(part).__name__ for part in batch][:4]}"
            raise ValueError(
                f"a batch must be a pair (x, y) of tensors, the loader gave a {got}: make pairs in "
                "the data set or in collate_fn"
            )
        torch.clear_autocast_cache()  # it holds the weights of the step before
        yield [tensor.to(device) for tensor in batch]


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        model.train(modes[model])  # a module's own train may do more than to set the mode
        for module, mode in modes.items():
            module.training = mode


def _finite_mean(losses: Float[Tensor, " steps"], sizes: list[int], epoch: int) -> float:
    # Looked at once an epoch: a look at each step would make an accelerator wait.
    mean = _mean_per_sample(losses, sizes)
    finite = losses.isfinite()
    if not finite.all():
        number = int((~finite).nonzero()[0]) + 1
        raise FloatingPointError(
            f"the loss is {losses[number - 1].item()} in step {number} of epoch {epoch}: lower the "
            "learning rate, or look for infinite values in the inputs"
        )
    return mean


def _samples(x: Any, y: Any = None, *others: Any) -> int:
    """How many samples a batch holds. Of a sequence, the first axis may be the time."""
    has_one_each = isinstance(y, Tensor) and y.ndim and len(y) in getattr(x, "shape", [len(y)])[:2]
    return len(y) if has_one_each else len(x)


def _one_number(loss: Any) -> Float[Tensor, ""]:
    if loss is None:
        raise ValueError("a batch's loss must be one number, got None: return it from your step")
    loss = torch.as_tensor(loss)
    if loss.ndim:
        raise ValueError(
            f"a batch's loss must be one number, got a tensor of shape {tuple(loss.shape)}: give "
            "loss_fn reduction='mean'"
        )
    return loss


def _mean_per_sample(means: Float[Tensor, " steps"], sizes: list[int]) -> float:
    means = means.to(torch.promote_types(means.dtype, torch.float32))  # half precision overflows
    weights = torch.tensor(sizes, device=means.device, dtype=means.dtype)
    return ((means * weights).sum() / weights.sum()).item()
